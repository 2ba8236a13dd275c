// What every kernel stands on: types, reductions over a warp, the scale of a quantised vector.
//
// Every float operation is an intrinsic that rounds to nearest on its own. A plain operator on
// floats may be fused or reassociated, and a test refuses it.
#pragma once

#include "constants.cuh"
#include "instructions.cuh"

typedef signed char s8;
typedef unsigned char u8;
typedef unsigned int u32;
typedef long long s64;

constexpr int WARP = 32;
constexpr u32 EVERY_LANE = 0xffffffffu;
// The bits of 2^64: magnitudes from here on fail their row. NaN and infinity lie above.
constexpr u32 RANGE_BITS = 0x5f800000u;

// The bits of |x|, which order as the magnitudes do, NaN last.
__device__ inline u32 magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

__device__ inline u32 larger(u32 a, u32 b) { return a > b ? a : b; }

__device__ inline float larger(float a, float b) { return a > b ? a : b; }

__device__ inline int smaller(int a, int b) { return a < b ? a : b; }

// The exponent e with max(amax, 2^-50) in [2^(e-1), 2^e); bits are those of amax.
__device__ inline int fixed_exponent(u32 bits) {
    const u32 floor = __float_as_uint(0x1p-50f);
    return (int)(larger(bits, floor) >> 23) - 126;
}

__device__ inline float power_of_two(int exponent) {
    return __uint_as_float((u32)(exponent + 127) << 23);
}

__device__ inline double wide_power_of_two(int exponent) {
    return __longlong_as_double((s64)(exponent + 1023) << 52);
}

__device__ inline u32 warp_max(u32 value) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        value = larger(value, __shfl_xor_sync(EVERY_LANE, value, step));
    }
    return value;
}

__device__ inline s64 warp_sum(s64 value) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        value += __shfl_xor_sync(EVERY_LANE, value, step);
    }
    return value;
}

// Four neighbours of a row.
struct Four {
    float at[4];
};

// Values `first` to `first + 3` of a row of `width` values; zeros beyond it. Rows begin at
// multiples of 16 bytes where the width is a multiple of 4.
__device__ inline Four load_four(const float* row, int first, int width) {
    Four four;
    if ((width & 3) == 0 && first < width) {
        const float4 some = *reinterpret_cast<const float4*>(row + first);
        four.at[0] = some.x;
        four.at[1] = some.y;
        four.at[2] = some.z;
        four.at[3] = some.w;
        return four;
    }
    for (int i = 0; i < 4; i++) four.at[i] = first + i < width ? row[first + i] : 0.0f;
    return four;
}

__device__ inline void store_four(float* row, int first, int width, const Four& four) {
    if ((width & 3) == 0 && first < width) {
        *reinterpret_cast<float4*>(row + first) =
            make_float4(four.at[0], four.at[1], four.at[2], four.at[3]);
        return;
    }
    for (int i = 0; i < 4; i++) {
        if (first + i < width) row[first + i] = four.at[i];
    }
}

// The bits of the largest magnitude of a row, in every lane of the warp.
__device__ inline u32 row_magnitude(const float* row, int width, int lane) {
    u32 largest = 0;
    for (int first = 4 * lane; first < width; first += 4 * WARP) {
        const Four four = load_four(row, first, width);
        for (int i = 0; i < 4; i++) largest = larger(largest, magnitude(four.at[i]));
    }
    return warp_max(largest);
}

// How a vector becomes integers of ±limit: q = rint(x · ratio), x ≈ q · scale.
struct Step {
    float ratio;
    float scale;
};

// `bits` are those of the largest magnitude, in range.
__device__ inline Step step_of(u32 bits, float limit) {
    const float a = larger(__uint_as_float(bits), __fmul_rn(limit, 0x1p-50f));
    return {__fdiv_rn(limit, a), __fdiv_rn(a, limit)};
}

__device__ inline int quantised(float x, float ratio, int limit) {
    const int q = __float2int_rn(__fmul_rn(x, ratio));
    return q > limit ? limit : (q < -limit ? -limit : q);
}

// q = 256·high + low, low from -128 to 127.
__device__ inline int high256(int q) { return (q + 128) >> 8; }

__device__ inline int low256(int q) { return q - 256 * high256(q); }
