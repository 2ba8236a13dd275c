// instructions.cuh on the host. Fragments are laid out as the PTX documentation says of
// mma.m16n8k32 (8-bit), mma.m8n8k16 (8-bit) and ldmatrix.
#pragma once

inline unsigned char* shared_memory() { return emulator::launch.shared.data(); }

namespace emulator {

struct Fragments {
    int* c;
    unsigned a[4], b[2];
};

inline int byte_of(unsigned word, int place) {
    return static_cast<signed char>(word >> (8 * place) & 255);
}

// c += a · b for fragments of `rows` x 8 results and `depth` columns, each register four int8 of
// neighbouring columns, lane (row or column % 8) · 4 + (column % 16) / 4.
inline void multiply_fragments(Fragments** lanes, int rows, int depth) {
    int left[16][32], right[32][8];
    for (int k = 0; k < depth; k++) {
        const int t = k % 16 / 4;
        for (int row = 0; row < rows; row++) {
            const int reg = row / 8 + (rows / 8) * (k / 16);
            left[row][k] = byte_of(lanes[row % 8 * 4 + t]->a[reg], k % 4);
        }
        for (int column = 0; column < 8; column++) {
            right[k][column] = byte_of(lanes[column * 4 + t]->b[k / 16], k % 4);
        }
    }
    for (int row = 0; row < rows; row++) {
        int sums[8] = {};
        for (int k = 0; k < depth; k++) {
            for (int column = 0; column < 8; column++) {
                sums[column] += left[row][k] * right[k][column];
            }
        }
        for (int column = 0; column < 8; column++) {
            int* own = lanes[row % 8 * 4 + column / 2]->c;
            const long long sum =
                static_cast<long long>(own[row / 8 * 2 + column % 2]) + sums[column];
            if (sum != static_cast<int>(sum)) fail("an int32 sum overflows");
            own[row / 8 * 2 + column % 2] = static_cast<int>(sum);
        }
    }
}

struct Rows {
    const void* row;
    unsigned* out;
};

}  // namespace emulator

inline void multiply_add(int c[4], const unsigned a[4], const unsigned b[2]) {
    using namespace emulator;
#ifdef EMULATE_SM75
    // The product as sm_75 makes it: four of m8n8k16.
    for (int half = 0; half < 2; half++) {
        for (int depth = 0; depth < 2; depth++) {
            Fragments own{c + 2 * half, {a[2 * depth + half]}, {b[depth]}};
            collective("mma 8 8 16", own, [](Fragments** all) { multiply_fragments(all, 8, 16); });
        }
    }
#else
    Fragments own{c, {a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    collective("mma 16 8 32", own, [](Fragments** all) { multiply_fragments(all, 16, 32); });
#endif
}

inline void load_matrices(unsigned out[4], const void* row) {
    using namespace emulator;
    const auto* memory = launch.shared.data();
    const auto* at = static_cast<const unsigned char*>(row);
    if (at < memory || at + 16 > memory + launch.shared.size() - GUARD_BYTES) {
        fail("ldmatrix reads outside shared memory");
    }
    if ((at - memory) % 16 != 0) fail("ldmatrix wants rows at multiples of 16 bytes");
    Rows own{row, out};
    collective("ldmatrix", own, [](Rows** lanes) {
        for (unsigned lane = 0; lane < WARP_LANES; lane++) {
            for (unsigned matrix = 0; matrix < 4; matrix++) {
                const auto* from = static_cast<const unsigned char*>(
                    lanes[8 * matrix + lane / 4]->row);
                std::memcpy(&lanes[lane]->out[matrix], from + 4 * (lane % 4), 4);
            }
        }
    });
}

inline void begin_copy(void* shared, const void* source) {
    using namespace emulator;
    const auto* memory = launch.shared.data();
    const auto* at = static_cast<unsigned char*>(shared);
    if (at < memory || at + 16 > memory + launch.shared.size() - GUARD_BYTES) {
        fail("a copy goes outside shared memory");
    }
    if ((at - memory) % 16 != 0 || reinterpret_cast<std::uintptr_t>(source) % 16 != 0) {
        fail("a copy wants both ends at multiples of 16 bytes");
    }
#ifdef EMULATE_SM75
    const bool now = true;
#else
    const bool now = launch.backward;
#endif
    if (now) {
        std::memcpy(shared, source, 16);
    } else {
        launch.current->copies.back().push_back({shared, source});
    }
}

inline void close_copies() { emulator::launch.current->copies.emplace_back(); }

// What is not waited for has not arrived, unless it arrived at once.
template <int OPEN>
inline void wait_for_copies() {
    auto& groups = emulator::launch.current->copies;
    while (groups.size() > OPEN + 1) {
        for (const auto& copy : groups.front()) std::memcpy(copy.to, copy.from, 16);
        groups.erase(groups.begin());
    }
}
