// The straight path: int32 sums that a library's products left in memory become a dense layer.
#include "dense.cuh"

// Up to three sums [count, padded_rows, padded_out] with their coefficients.
struct Sums {
    const int* sums;
    s64 plane;
    int padded_out;
    int count;
    int first, second, third;
};

// The exact integer; `carried` [rows, out] holds that of an earlier part of the depth, or is null.
__device__ inline s64 whole_sum(
    const Sums& from, const s64* carried, int row, int channel, s64 at) {
    const int* sum = from.sums + (s64)row * from.padded_out + channel;
    s64 total = (s64)from.first * sum[0];
    if (from.count > 1) total += (s64)from.second * sum[from.plane];
    if (from.count > 2) total += (s64)from.third * sum[2 * from.plane];
    return carried == nullptr ? total : total + carried[at];
}

extern "C" __global__ void carry(
    const int* sums, s64 plane, int padded_out, int count, int first, int second, int third,
    const s64* carried, int rows, int out, s64* total) {
    const s64 at = (s64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (s64)rows * out) return;
    const Sums from = {sums, plane, padded_out, count, first, second, third};
    total[at] = whole_sum(from, carried, (int)(at / out), (int)(at % out), at);
}

// A thread takes four channels, which are padded to a multiple of 64.
extern "C" __global__ void combine(
    const int* sums, s64 plane, int padded_out, int count, int first, int second, int third,
    const s64* carried, int rows, int out, const float* row_scale, const float* channel_scale,
    const float* bias, int activation, const float* residual, float* y) {
    const s64 own = (s64)blockIdx.x * blockDim.x + threadIdx.x;
    const int groups = (out + 3) / 4;
    if (own >= (s64)rows * groups) return;
    const Sums from = {sums, plane, padded_out, count, first, second, third};
    const Finish to = {row_scale, channel_scale, bias, activation, residual, y, out};
    const int row = (int)(own / groups), channel = 4 * (int)(own % groups);
    Four totals;
    for (int i = 0; i < 4; i++) {
        // Channels beyond the last are padding; they have sums, but nothing carried.
        const bool real = channel + i < out;
        const s64 at = (s64)row * out + channel + i;
        totals.at[i] =
            __ll2float_rn(whole_sum(from, real ? carried : nullptr, row, channel + i, at));
    }
    finish_four(to, totals, row, channel);
}
