// The instructions that C++ has no words for. Tests replace this file by an emulation on the host.
#pragma once

// Shared memory whose size is given at the launch; aligned to 16 bytes.
__device__ inline unsigned char* shared_memory() {
    extern __shared__ __align__(16) unsigned char launch_memory[];
    return launch_memory;
}

// c[16 x 8] += a[16 x 32] · b[32 x 8] over a warp, int8 to int32.
//
// With g = lane / 4 and t = lane % 4, a lane holds (four int8 in each register, lowest first):
//   a[0]: row g,     columns 4t to 4t+3        a[2]: row g,     columns 16+4t to 16+4t+3
//   a[1]: row g + 8, columns 4t to 4t+3        a[3]: row g + 8, columns 16+4t to 16+4t+3
//   b[0]: column g, rows 4t to 4t+3            b[1]: column g, rows 16+4t to 16+4t+3
//   c[0], c[1]: row g, columns 2t, 2t+1        c[2], c[3]: row g + 8, columns 2t, 2t+1
__device__ inline void multiply_add(int c[4], const unsigned a[4], const unsigned b[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    // sm_75 has m8n8k16 only; its fragments are the quarters of the larger ones.
    for (int half = 0; half < 2; half++) {
        for (int depth = 0; depth < 2; depth++) {
            asm volatile(
                "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                : "r"(a[2 * depth + half]), "r"(b[depth]));
        }
    }
#endif
}

// Four 8 x 16-byte matrices from shared memory: lane 8i + r gives the address of row r of matrix
// i; with g = lane / 4 and t = lane % 4, out[i] is bytes 4t to 4t+3 of row g of matrix i.
__device__ inline void load_matrices(unsigned out[4], const void* row) {
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address)
                 : "memory");
}

// Begin to copy 16 bytes to shared memory, past the registers.
__device__ inline void begin_copy(void* shared, const void* source) {
#if __CUDA_ARCH__ >= 800
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(source)
                 : "memory");
#else
    *static_cast<uint4*>(shared) = *static_cast<const uint4*>(source);
#endif
}

// The copies that this thread began since the last call make one group.
__device__ inline void close_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

// Wait until at most `OPEN` of this thread's groups are still under way.
template <int OPEN>
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(OPEN) : "memory");
#endif
}
