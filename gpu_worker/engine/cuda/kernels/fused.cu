// The fused path: a dense layer in one kernel, int32 sums in registers, on tensor cores.
//
// A block of 8 warps makes 128 x 64 results. Slices of both operands come through shared memory
// in steps of 64 columns, the next step's while this one's are multiplied. A warp makes 32 x 32
// results: 2 x 4 tiles of 16 x 8. A row of a step is 64 bytes in four chunks of 16; their places
// are exchanged by row so that eight rows of one chunk lie in different banks.
#include "dense.cuh"

constexpr int TILE_ROWS = 128;
constexpr int TILE_OUT = 64;
constexpr int STEP_BYTES = 64;
constexpr int THREADS = 256;
constexpr int ROW_TILES = 2;
constexpr int OUT_TILES = 4;
// Floats from row to row of a block's results; with 72 a warp's stores meet different banks.
constexpr int TOTALS_STRIDE = 72;

__device__ inline int chunk_place(int row, int chunk) {
    return row * STEP_BYTES + ((chunk ^ (row >> 1)) & 3) * 16;
}

// Sums of four int8 each, none beyond int8.
__device__ inline u32 add_bytes(u32 a, u32 b) {
    return ((a & 0x7f7f7f7fu) + (b & 0x7f7f7f7fu)) ^ ((a ^ b) & 0x80808080u);
}

// Begin to copy `tile` rows of every plane, from `first` on; beyond the end the last row again.
template <int PLANES>
__device__ inline void begin_tile(
    u8* to, const s8* from, s64 plane, int rows, int depth, int first, int tile, int column) {
    for (int at = threadIdx.x; at < PLANES * tile * 4; at += THREADS) {
        const int chunk = at & 3, row = (at >> 2) % tile, slice = (at >> 2) / tile;
        const s8* source = from + slice * plane + (s64)smaller(first + row, rows - 1) * depth;
        begin_copy(to + slice * tile * STEP_BYTES + chunk_place(row, chunk),
                   source + column + 16 * chunk);
    }
}

// XS, WS: slices of inputs and weights. Sums: XS = WS = 2: high·high, both cross products
// together, low·low; with KARATSUBA high·high, low·low, (high + low)·(high + low). XS = 2,
// WS = 1: high·w, low·w.
template <int XS, int WS, bool KARATSUBA>
struct Products {
    static constexpr int SUMS = XS + WS - 1;
    int sum[ROW_TILES][OUT_TILES][SUMS][4];

    __device__ inline void clear() {
        for (int m = 0; m < ROW_TILES; m++)
            for (int n = 0; n < OUT_TILES; n++)
                for (int s = 0; s < SUMS; s++)
                    for (int i = 0; i < 4; i++) sum[m][n][s][i] = 0;
    }

    __device__ inline void add(int m, int n, const u32 (&x)[XS][4], const u32 (&w)[WS][2]) {
        if constexpr (XS == 1) {
            multiply_add(sum[m][n][0], x[0], w[0]);
        } else if constexpr (WS == 1) {
            multiply_add(sum[m][n][0], x[0], w[0]);
            multiply_add(sum[m][n][1], x[1], w[0]);
        } else if constexpr (KARATSUBA) {
            u32 xs[4], ws[2];
            for (int i = 0; i < 4; i++) xs[i] = add_bytes(x[0][i], x[1][i]);
            for (int i = 0; i < 2; i++) ws[i] = add_bytes(w[0][i], w[1][i]);
            multiply_add(sum[m][n][0], x[0], w[0]);
            multiply_add(sum[m][n][1], x[1], w[1]);
            multiply_add(sum[m][n][2], xs, ws);
        } else {
            multiply_add(sum[m][n][0], x[0], w[0]);
            multiply_add(sum[m][n][1], x[0], w[1]);
            multiply_add(sum[m][n][1], x[1], w[0]);
            multiply_add(sum[m][n][2], x[1], w[1]);
        }
    }

    __device__ inline s64 whole(int m, int n, int i) const {
        const s64 first = sum[m][n][0][i];
        if constexpr (XS == 1) {
            return first;
        } else if constexpr (WS == 1) {
            return 256 * first + sum[m][n][1][i];
        } else if constexpr (KARATSUBA) {
            // 127²·hh + 127·(ss - hh - ll) + ll
            return 16002 * first - 126 * (s64)sum[m][n][1][i] + 127 * (s64)sum[m][n][2][i];
        } else {
            return 65536 * first + 256 * (s64)sum[m][n][1][i] + sum[m][n][2][i];
        }
    }
};

template <int XS, int WS, bool KARATSUBA>
__device__ inline void fused(
    const s8* x, s64 x_plane, int padded_rows, const s8* w, s64 w_plane, int padded_out,
    int depth, int rows, const Finish& to) {
    constexpr int X_BYTES = XS * TILE_ROWS * STEP_BYTES;
    constexpr int STAGE_BYTES = X_BYTES + WS * TILE_OUT * STEP_BYTES;
    u8* stages = shared_memory();
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int first_row = blockIdx.y * TILE_ROWS, first_out = blockIdx.x * TILE_OUT;
    const int own_row = (warp >> 1) * 32, own_out = (warp & 1) * 32;
    const int steps = depth / STEP_BYTES;
    Products<XS, WS, KARATSUBA> products;
    products.clear();

    begin_tile<XS>(stages, x, x_plane, padded_rows, depth, first_row, TILE_ROWS, 0);
    begin_tile<WS>(stages + X_BYTES, w, w_plane, padded_out, depth, first_out, TILE_OUT, 0);
    close_copies();
    for (int step = 0; step < steps; step++) {
        const u8* stage = stages + (step & 1) * STAGE_BYTES;
        if (step + 1 < steps) {
            u8* next = stages + ((step + 1) & 1) * STAGE_BYTES;
            const int column = (step + 1) * STEP_BYTES;
            begin_tile<XS>(next, x, x_plane, padded_rows, depth, first_row, TILE_ROWS, column);
            begin_tile<WS>(
                next + X_BYTES, w, w_plane, padded_out, depth, first_out, TILE_OUT, column);
        }
        close_copies();
        wait_for_copies<1>();
        __syncthreads();
        for (int half = 0; half < 2; half++) {
            u32 wide[OUT_TILES][WS][2];
            for (int pair = 0; pair < OUT_TILES / 2; pair++) {
                for (int slice = 0; slice < WS; slice++) {
                    const int row = own_out + 16 * pair + (lane & 7) + (lane >> 4) * 8;
                    const int chunk = 2 * half + ((lane >> 3) & 1);
                    u32 some[4];
                    load_matrices(some, stage + X_BYTES + slice * TILE_OUT * STEP_BYTES +
                                            chunk_place(row, chunk));
                    for (int i = 0; i < 4; i++) wide[2 * pair + (i >> 1)][slice][i & 1] = some[i];
                }
            }
            for (int m = 0; m < ROW_TILES; m++) {
                u32 tall[XS][4];
                for (int slice = 0; slice < XS; slice++) {
                    const int row = own_row + 16 * m + (lane & 15);
                    const int chunk = 2 * half + (lane >> 4);
                    load_matrices(tall[slice], stage + slice * TILE_ROWS * STEP_BYTES +
                                                   chunk_place(row, chunk));
                }
                for (int n = 0; n < OUT_TILES; n++) products.add(m, n, tall, wide[n]);
            }
        }
        __syncthreads();
    }

    // Through shared memory, so that threads go on with neighbours of a row.
    float* totals = reinterpret_cast<float*>(stages);
    for (int m = 0; m < ROW_TILES; m++) {
        for (int n = 0; n < OUT_TILES; n++) {
            for (int i = 0; i < 4; i++) {
                const int row = own_row + 16 * m + lane / 4 + (i >> 1) * 8;
                const int channel = own_out + 8 * n + 2 * (lane & 3) + (i & 1);
                totals[row * TOTALS_STRIDE + channel] = __ll2float_rn(products.whole(m, n, i));
            }
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < TILE_ROWS * TILE_OUT / 4; at += THREADS) {
        const int row = at / (TILE_OUT / 4), channel = 4 * (at % (TILE_OUT / 4));
        if (first_row + row < rows) {
            const Four four = load_four(totals + row * TOTALS_STRIDE + channel, 0, 4);
            finish_four(to, four, first_row + row, first_out + channel);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) fused_16_16(
    const s8* x, s64 x_plane, int padded_rows, const s8* w, s64 w_plane, int padded_out,
    int depth, int rows, int out, const float* row_scale, const float* channel_scale,
    const float* bias, int activation, const float* residual, float* y) {
    const Finish to = {row_scale, channel_scale, bias, activation, residual, y, out};
    fused<2, 2, false>(x, x_plane, padded_rows, w, w_plane, padded_out, depth, rows, to);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) fused_13_13(
    const s8* x, s64 x_plane, int padded_rows, const s8* w, s64 w_plane, int padded_out,
    int depth, int rows, int out, const float* row_scale, const float* channel_scale,
    const float* bias, int activation, const float* residual, float* y) {
    const Finish to = {row_scale, channel_scale, bias, activation, residual, y, out};
    fused<2, 2, true>(x, x_plane, padded_rows, w, w_plane, padded_out, depth, rows, to);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) fused_16_8(
    const s8* x, s64 x_plane, int padded_rows, const s8* w, s64 w_plane, int padded_out,
    int depth, int rows, int out, const float* row_scale, const float* channel_scale,
    const float* bias, int activation, const float* residual, float* y) {
    const Finish to = {row_scale, channel_scale, bias, activation, residual, y, out};
    fused<2, 1, false>(x, x_plane, padded_rows, w, w_plane, padded_out, depth, rows, to);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) fused_8_8(
    const s8* x, s64 x_plane, int padded_rows, const s8* w, s64 w_plane, int padded_out,
    int depth, int rows, int out, const float* row_scale, const float* channel_scale,
    const float* bias, int activation, const float* residual, float* y) {
    const Finish to = {row_scale, channel_scale, bias, activation, residual, y, out};
    fused<1, 1, false>(x, x_plane, padded_rows, w, w_plane, padded_out, depth, rows, to);
}
