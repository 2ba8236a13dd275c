// The transcendental functions of docs/EXACT.md, section 5. NaN passes through all of them.
#pragma once

#include "common.cuh"

__device__ inline float clamped(float x, float bound) {
    return x < -bound ? -bound : (x > bound ? bound : x);
}

// 2^z for z <= 0; below -64 as at -64.
__device__ inline float exp2_of(float z) {
    z = z < EXP2_LOWEST ? EXP2_LOWEST : z;
    const int whole = __float2int_rn(z);
    const float fraction = __fsub_rn(z, __int2float_rn(whole));
    return __fmul_rn(horner_exp2(fraction), power_of_two(whole));
}

__device__ inline float gelu(float x) {
    const float u = clamped(x, NORMAL_CLAMP);
    const float t = __fmul_rn(u, u);
    const float h = __fdiv_rn(__fmul_rn(u, horner_normal_top(t)), horner_normal_bottom(t));
    return __fmul_rn(x, __fadd_rn(0.5f, h));
}

__device__ inline float tanh_of(float x) {
    const float u = clamped(x, TANH_CLAMP);
    const float t = __fmul_rn(u, u);
    return clamped(__fdiv_rn(__fmul_rn(u, horner_tanh_top(t)), horner_tanh_bottom(t)), 1.0f);
}

__device__ inline float gelu_tanh(float x) {
    const float cube = __fmul_rn(GELU_TANH_CUBIC, __fmul_rn(x, x));
    const float inner = tanh_of(__fmul_rn(x, __fadd_rn(GELU_TANH_LINEAR, cube)));
    return __fmul_rn(x, __fadd_rn(0.5f, __fmul_rn(0.5f, inner)));
}

__device__ inline float relu(float x) { return x <= 0.0f ? 0.0f : x; }

__device__ inline float activated(float x, int activation) {
    switch (activation) {
        case ACTIVATION_GELU:
            return gelu(x);
        case ACTIVATION_GELU_TANH:
            return gelu_tanh(x);
        case ACTIVATION_RELU:
            return relu(x);
        case ACTIVATION_TANH:
            return tanh_of(x);
        default:
            return x;
    }
}
