// CUDA's execution on the host: a kernel's source compiles against this as it is.
//
// The threads of a block are fibers of one system thread. A fiber runs until it waits for others,
// and a warp as far as it gets without other warps; the order in which lanes, warps and blocks
// take their turns is forward or backward. A kernel that lacks a barrier gives wrong results in
// one of the two. Asynchronous copies arrive as late as
// they may in the one, and at once in the other. Collective instructions refuse warps whose lanes
// are not all there.
#pragma once

#include <algorithm>
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace emulator {

constexpr unsigned WARP_LANES = 32;
constexpr std::size_t STACK_BYTES = 256 * 1024;
constexpr std::size_t GUARD_BYTES = 256;
constexpr unsigned char POISON = 0xA5;

enum class State { ready, at_warp, at_block, finished };

struct Copy {
    void* to;
    const void* from;
};

struct Fiber {
    ucontext_t context;
    jmp_buf resume;
    bool started = false;
    std::unique_ptr<char[]> stack;
    State state = State::finished;
    uint3 thread{};
    // What a collective instruction has from this lane.
    const char* instruction = nullptr;
    const char* collective = nullptr;
    void* slot = nullptr;
    // Asynchronous copies, group by group; the last group is open.
    std::vector<std::vector<Copy>> copies;
};

struct Launch {
    uint3 grid{}, size{}, block{};
    std::vector<std::unique_ptr<Fiber>> fibers;
    Fiber* current = nullptr;
    jmp_buf scheduler;
    unsigned threads = 0;
    std::vector<unsigned> waiting_warp;
    unsigned waiting_block = 0;
    std::vector<unsigned char> shared;
    void (*entry)(const std::uint64_t*) = nullptr;
    const std::uint64_t* arguments = nullptr;
    bool backward = false;
    unsigned turns = 0;
    char error[256] = "";
};

inline Launch launch;

inline void leave() {
    if (_setjmp(launch.current->resume) == 0) _longjmp(launch.scheduler, 1);
}

// Give the launch up; the fibers' stacks are begun anew by the next one.
[[noreturn]] inline void fail(const char* words) {
    std::snprintf(launch.error, sizeof launch.error, "%s", words);
    _longjmp(launch.scheduler, 1);
}

inline void fiber_main() {
    for (;;) {
        launch.entry(launch.arguments);
        launch.current->state = State::finished;
        leave();
    }
}

inline void enter(Fiber& fiber) {
    launch.current = &fiber;
    if (_setjmp(launch.scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.resume, 1);
    fiber.started = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
    setcontext(&fiber.context);
}

// All lanes of a warp bring a slot; the last to come runs `act` on the 32 slots in lane order.
template <class Slot, class Act>
void collective(const char* name, Slot& slot, Act act) {
    Fiber& own = *launch.current;
    const unsigned warp = own.thread.x / WARP_LANES, first = warp * WARP_LANES;
    if (first + WARP_LANES > launch.threads) fail("a warp is not whole");
    own.collective = name;
    own.slot = &slot;
    if (++launch.waiting_warp[warp] < WARP_LANES) {
        own.state = State::at_warp;
        leave();
        return;
    }
    launch.waiting_warp[warp] = 0;
    Slot* slots[WARP_LANES];
    for (unsigned lane = 0; lane < WARP_LANES; lane++) {
        Fiber& other = *launch.fibers[first + lane];
        if (std::strcmp(other.collective, name) != 0) fail("lanes are at different instructions");
        slots[lane] = static_cast<Slot*>(other.slot);
        other.state = State::ready;
    }
    act(slots);
}

template <class... Arguments, std::size_t... Places>
void call(void (*kernel)(Arguments...), const std::uint64_t* slots,
          std::index_sequence<Places...>) {
    const auto read = [slots](auto* type, std::size_t place) {
        std::remove_pointer_t<decltype(type)> value;
        std::memcpy(&value, slots + place, sizeof value);  // little-endian: the low bytes
        return value;
    };
    kernel(read(static_cast<Arguments*>(nullptr), Places)...);
}

template <class... Arguments>
void call(void (*kernel)(Arguments...), const std::uint64_t* slots) {
    call(kernel, slots, std::index_sequence_for<Arguments...>{});
}

// Run a warp as far as it gets without the others; how many of its threads ended.
inline unsigned run_warp(unsigned warp, bool backward) {
    const unsigned first = warp * WARP_LANES;
    const unsigned lanes = std::min(WARP_LANES, launch.threads - first);
    unsigned ended = 0;
    for (bool any = true; any;) {
        any = false;
        for (unsigned turn = 0; turn < lanes; turn++) {
            Fiber& fiber = *launch.fibers[first + (backward ? lanes - 1 - turn : turn)];
            if (fiber.state != State::ready) continue;
            any = true;
            launch.turns++;
            enter(fiber);
            if (launch.error[0] != 0) return ended;
            if (fiber.state != State::finished) continue;
            ended++;
            if (launch.waiting_block > 0) {
                std::snprintf(launch.error, sizeof launch.error,
                              "a thread ended while others wait for its block");
                return ended;
            }
        }
    }
    return ended;
}

inline void run_block(bool backward) {
    for (unsigned thread = 0; thread < launch.threads; thread++) {
        Fiber& fiber = *launch.fibers[thread];
        fiber.state = State::ready;
        fiber.thread = {thread, 0, 0};
        fiber.copies.assign(1, {});
    }
    launch.waiting_warp.assign(launch.threads / WARP_LANES + 1, 0);
    launch.waiting_block = 0;
    std::fill(launch.shared.begin(), launch.shared.end(), POISON);
    const unsigned warps = (launch.threads + WARP_LANES - 1) / WARP_LANES;
    for (unsigned left = launch.threads; left > 0;) {
        const unsigned before = launch.turns;
        for (unsigned turn = 0; turn < warps; turn++) {
            left -= run_warp(backward ? warps - 1 - turn : turn, backward);
            if (launch.error[0] != 0) return;
        }
        if (launch.turns == before) {
            std::snprintf(launch.error, sizeof launch.error, "threads wait for each other");
            return;
        }
    }
    for (std::size_t at = launch.shared.size() - GUARD_BYTES; at < launch.shared.size(); at++) {
        if (launch.shared[at] != POISON) {
            std::snprintf(launch.error, sizeof launch.error, "wrote beyond shared memory");
        }
    }
}

// Returns words about what went wrong, or null.
inline const char* run(void (*entry)(const std::uint64_t*), const std::uint64_t* arguments,
                       unsigned grid_x, unsigned grid_y, unsigned threads, unsigned shared_bytes,
                       bool backward) {
    launch.entry = entry;
    launch.arguments = arguments;
    launch.backward = backward;
    launch.grid = {grid_x, grid_y, 1};
    launch.size = {threads, 1, 1};
    launch.threads = threads;
    launch.shared.resize((shared_bytes + 15) / 16 * 16 + GUARD_BYTES);
    launch.error[0] = 0;
    while (launch.fibers.size() < threads) {
        launch.fibers.push_back(std::make_unique<Fiber>());
        launch.fibers.back()->stack.reset(new char[STACK_BYTES]);
    }
    const unsigned blocks = grid_x * grid_y;
    for (unsigned turn = 0; turn < blocks && launch.error[0] == 0; turn++) {
        const unsigned at = backward ? blocks - 1 - turn : turn;
        launch.block = {at % grid_x, at / grid_x, 0};
        run_block(backward);
    }
    if (launch.error[0] == 0) return nullptr;
    for (auto& fiber : launch.fibers) fiber->started = false;
    return launch.error;
}

template <class To, class From>
To bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}

// As CUDA converts: ties to even, NaN to 0, what is out of range to the nearest there is.
template <class To, class From>
To to_integer(From value) {
    const From rounded = std::nearbyint(value);
    if (std::isnan(rounded)) return 0;
    if (rounded >= -static_cast<From>(std::numeric_limits<To>::min()))
        return std::numeric_limits<To>::max();
    if (rounded < static_cast<From>(std::numeric_limits<To>::min()))
        return std::numeric_limits<To>::min();
    return static_cast<To>(rounded);
}

template <class T>
struct Exchange {
    T value, result;
    int step;
};

}  // namespace emulator

#define threadIdx (emulator::launch.current->thread)
#define blockIdx (emulator::launch.block)
#define blockDim (emulator::launch.size)
#define gridDim (emulator::launch.grid)

inline void __syncthreads() {
    using namespace emulator;
    if (++launch.waiting_block < launch.threads) {
        launch.current->state = State::at_block;
        leave();
        return;
    }
    launch.waiting_block = 0;
    for (unsigned thread = 0; thread < launch.threads; thread++) {
        launch.fibers[thread]->state = State::ready;
    }
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
    using namespace emulator;
    if (mask != 0xffffffffu) fail("a shuffle without all lanes");
    Exchange<T> own{value, {}, step};
    collective("shuffle", own, [](Exchange<T>** lanes) {
        for (unsigned lane = 0; lane < WARP_LANES; lane++) {
            lanes[lane]->result = lanes[lane ^ lanes[lane]->step]->value;
        }
    });
    return own.result;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline int __float2int_rn(float a) { return emulator::to_integer<int>(a); }
inline long long __float2ll_rn(float a) { return emulator::to_integer<long long>(a); }
inline long long __double2ll_rn(double a) { return emulator::to_integer<long long>(a); }
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __ll2float_rn(long long a) { return static_cast<float>(a); }
inline double __int2double_rn(int a) { return a; }
inline double __ll2double_rn(long long a) { return static_cast<double>(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline double __float2double_rn(float a) { return a; }
inline unsigned __float_as_uint(float a) { return emulator::bits<unsigned>(a); }
inline float __uint_as_float(unsigned a) { return emulator::bits<float>(a); }
inline float __int_as_float(int a) { return emulator::bits<float>(a); }
inline double __longlong_as_double(long long a) { return emulator::bits<double>(a); }
using std::rintf;

// Byte n of the result is the byte that nibble n of `pick` names: 0 to 3 of a, 4 to 7 of b.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned pick) {
    const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
    unsigned result = 0;
    for (int n = 0; n < 4; n++) {
        result |= static_cast<unsigned>(both >> (8 * (pick >> (4 * n) & 7)) & 255) << (8 * n);
    }
    return result;
}
