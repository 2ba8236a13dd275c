// From the exact integer of a dense layer to its float.
#pragma once

#include "functions.cuh"

// What a dense layer's results go through; arrays are indexed by row or by channel.
struct Finish {
    const float* row_scale;
    const float* channel_scale;
    const float* bias;
    int activation;
    const float* residual;  // [rows, out], or null
    float* y;               // [rows, out]
    int out;
};

// Four neighbouring channels of a row, from `first` on; `totals` are the exact integers, rounded.
__device__ inline void finish_four(const Finish& to, const Four& totals, int row, int first) {
    const Four scales = load_four(to.channel_scale, first, to.out);
    const Four biases = load_four(to.bias, first, to.out);
    Four residuals = {};
    if (to.residual != nullptr) {
        residuals = load_four(to.residual + (s64)row * to.out, first, to.out);
    }
    Four y;
    for (int i = 0; i < 4; i++) {
        const float scaled = __fmul_rn(totals.at[i], to.row_scale[row]);
        y.at[i] = __fadd_rn(__fmul_rn(scaled, scales.at[i]), biases.at[i]);
        y.at[i] = activated(y.at[i], to.activation);
        if (to.residual != nullptr) y.at[i] = __fadd_rn(y.at[i], residuals.at[i]);
    }
    store_four(to.y + (s64)row * to.out, first, to.out, y);
}
