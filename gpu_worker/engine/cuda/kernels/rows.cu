// What happens to vectors one by one: quantisation, norms, embeddings, pooling, results.
//
// A warp takes a row, but for pooling, where a block takes one.
#include "functions.cuh"

__device__ inline int own_row() { return (blockIdx.x * blockDim.x + threadIdx.x) / WARP; }

__device__ inline int own_lane() { return threadIdx.x % WARP; }

// Rows [rows, width] to slices [planes, padded_rows, depth] and scales [padded_rows].
//
// What lies beyond the rows and the width becomes zero. `slicing`: 0 for one slice, 1 for high
// and low to the base 256, 2 for high, low and (a third plane, if there is one) their sum to the
// base 127.
extern "C" __global__ void quantise(
    const float* x, int rows, int width, s8* slices, int planes, int padded_rows, int depth,
    int slicing, int limit, float* scale, u8* failed) {
    const int row = own_row(), lane = own_lane();
    if (row >= padded_rows) return;
    const bool real = row < rows;
    const float* source = x + (s64)row * width;
    u32 largest = real ? row_magnitude(source, width, lane) : 0;
    const bool bad = largest >= RANGE_BITS;
    if (bad) largest = 0;
    const Step step = step_of(largest, __int2float_rn(limit));
    if (lane == 0) {
        scale[row] = step.scale;
        if (bad) failed[row] = 1;
    }
    const s64 plane = (s64)padded_rows * depth;
    for (int first = 4 * lane; first < depth; first += 4 * WARP) {
        Four four = {};
        if (real && !bad) four = load_four(source, first, width);
        u32 high = 0, low = 0, sum = 0;
        for (int i = 0; i < 4; i++) {
            const int q = quantised(four.at[i], step.ratio, limit);
            int h = q, l = 0;
            if (slicing == 1) {
                h = high256(q);
                l = low256(q);
            } else if (slicing == 2) {
                h = (q + 127 * 128 + 63) / 127 - 128;  // rounds down for negative q as well
                l = q - 127 * h;
            }
            high |= (u32)(h & 255) << (8 * i);
            low |= (u32)(l & 255) << (8 * i);
            sum |= (u32)((h + l) & 255) << (8 * i);
        }
        s8* at = slices + (s64)row * depth + first;
        *reinterpret_cast<u32*>(at) = high;
        if (planes > 1) *reinterpret_cast<u32*>(at + plane) = low;
        if (planes > 2) *reinterpret_cast<u32*>(at + 2 * plane) = sum;
    }
}

// Layer norm of rows [rows, width]; y may be x.
extern "C" __global__ void layer_norm(
    const float* x, int rows, int width, const float* gain, const float* bias, double eps,
    float* y, u8* failed) {
    const int row = own_row(), lane = own_lane();
    if (row >= rows) return;
    const float* source = x + (s64)row * width;
    u32 largest = row_magnitude(source, width, lane);
    const bool bad = largest >= RANGE_BITS;
    if (bad) {
        largest = 0;
        if (lane == 0) failed[row] = 1;
    }
    const int exponent = fixed_exponent(largest);
    const float unit = power_of_two(NORM_BITS - exponent);
    s64 total = 0, squares = 0;
    for (int first = 4 * lane; first < width && !bad; first += 4 * WARP) {
        const Four four = load_four(source, first, width);
        for (int i = 0; i < 4; i++) {
            const s64 fixed = __float2int_rn(__fmul_rn(four.at[i], unit));
            total += fixed;
            squares += fixed * fixed;
        }
    }
    total = warp_sum(total);
    squares = warp_sum(squares);
    const double count = __int2double_rn(width);
    const double average = __ddiv_rn(__ll2double_rn(total), count);
    const s64 middle = __double2ll_rn(average);
    const double rest = __ll2double_rn(total - middle * width);
    // Σ(n - m)² = Σn² - m·(2·Σn - m·K)
    squares -= middle * (2 * total - middle * width);
    const double wide_unit = wide_power_of_two(exponent - NORM_BITS);
    const float mean = __double2float_rn(__dmul_rn(average, wide_unit));
    const double variance = __ddiv_rn(
        __dsub_rn(__ll2double_rn(squares), __ddiv_rn(__dmul_rn(rest, rest), count)), count);
    const double spread =
        __dsqrt_rn(__dadd_rn(__dmul_rn(variance, __dmul_rn(wide_unit, wide_unit)), eps));
    const float factor = __double2float_rn(__ddiv_rn(1.0, spread));
    for (int first = 4 * lane; first < width; first += 4 * WARP) {
        Four four = {};
        if (!bad) four = load_four(source, first, width);
        const Four gains = load_four(gain, first, width), biases = load_four(bias, first, width);
        for (int i = 0; i < 4; i++) {
            const float scaled = __fmul_rn(__fsub_rn(four.at[i], mean), factor);
            four.at[i] = __fadd_rn(__fmul_rn(scaled, gains.at[i]), biases.at[i]);
        }
        store_four(y + (s64)row * width, first, width, four);
    }
}

// word[token], plus position[segment, place] unless position is null.
extern "C" __global__ void embed(
    const float* word, const float* position, int places, const u32* token, const int* segment,
    const int* place, int rows, int width, float* y) {
    const int row = own_row(), lane = own_lane();
    if (row >= rows) return;
    const float* words = word + (s64)token[row] * width;
    const float* added = nullptr;
    if (position != nullptr) {
        added = position + ((s64)segment[row] * places + place[row]) * width;
    }
    for (int first = 4 * lane; first < width; first += 4 * WARP) {
        Four four = load_four(words, first, width);
        if (added != nullptr) {
            const Four more = load_four(added, first, width);
            for (int i = 0; i < 4; i++) four.at[i] = __fadd_rn(four.at[i], more.at[i]);
        }
        store_four(y + (s64)row * width, first, width, four);
    }
}

extern "C" __global__ void activate(const float* x, s64 count, int activation, float* y) {
    const s64 at = (s64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < count) y[at] = activated(x[at], activation);
}

// activation(first half) · second half: [rows, 2·width] to [rows, width].
extern "C" __global__ void gate(
    const float* x, int rows, int width, int activation, float* y) {
    const s64 at = (s64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (s64)rows * width) return;
    const s64 row = at / width, column = at % width;
    const float* source = x + row * 2 * width + column;
    y[at] = __fmul_rn(activated(source[0], activation), source[width]);
}

// The largest of a block's values, in all its threads; blocks have at most 32 warps.
__device__ inline u32 block_max(u32 value) {
    __shared__ u32 of_warp[WARP];
    value = warp_max(value);
    __syncthreads();
    if (own_lane() == 0) of_warp[threadIdx.x / WARP] = value;
    __syncthreads();
    u32 largest = 0;
    for (int warp = 0; warp < blockDim.x / WARP; warp++) largest = larger(largest, of_warp[warp]);
    return largest;
}

// Token vectors to row vectors: `pooling` 0 for the first token, 1 for the mean, 2 for the
// maximum. A block takes a row.
extern "C" __global__ void pool(
    const float* x, const int* start, const int* length, const u8* token_failed, int width,
    int pooling, float* y, u8* failed) {
    const int row = blockIdx.x, tokens = length[row];
    const float* source = x + (s64)start[row] * width;
    float* out = y + (s64)row * width;
    u32 any = 0;
    for (int token = threadIdx.x; token < tokens; token += blockDim.x) {
        any = larger(any, (u32)token_failed[start[row] + token]);
    }
    any = block_max(any);
    if (pooling == 0) {
        if (threadIdx.x == 0) failed[row] = any != 0;
        for (int column = threadIdx.x; column < width; column += blockDim.x) {
            out[column] = source[column];
        }
        return;
    }
    u32 largest = 0;
    for (s64 at = threadIdx.x; at < (s64)tokens * width; at += blockDim.x) {
        largest = larger(largest, magnitude(source[at]));
    }
    largest = block_max(largest);
    const bool bad = largest >= RANGE_BITS;
    if (threadIdx.x == 0) failed[row] = bad || any != 0;
    const int exponent = fixed_exponent(largest);
    const float unit = power_of_two(FRACTION_BITS - exponent);
    const double wide_unit = wide_power_of_two(exponent - FRACTION_BITS);
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        if (bad) {
            out[column] = 0.0f;
        } else if (pooling == 1) {
            s64 total = 0;
            for (int token = 0; token < tokens; token++) {
                total += __float2int_rn(__fmul_rn(source[(s64)token * width + column], unit));
            }
            const double average = __ddiv_rn(__ll2double_rn(total), __int2double_rn(tokens));
            out[column] = __double2float_rn(__dmul_rn(average, wide_unit));
        } else {
            // The sum with +0 gives zeros one sign.
            float best = __fadd_rn(source[column], 0.0f);
            for (int token = 1; token < tokens; token++) {
                best = larger(best, __fadd_rn(source[(s64)token * width + column], 0.0f));
            }
            out[column] = best;
        }
    }
}

// x / ‖x‖ of rows; zeros stay zeros.
extern "C" __global__ void normalise(
    const float* x, int rows, int width, float* y, u8* failed) {
    const int row = own_row(), lane = own_lane();
    if (row >= rows) return;
    const float* source = x + (s64)row * width;
    u32 largest = row_magnitude(source, width, lane);
    const bool bad = largest >= RANGE_BITS;
    if (bad) {
        largest = 0;
        if (lane == 0) failed[row] = 1;
    }
    const float unit = power_of_two(FRACTION_BITS - fixed_exponent(largest));
    s64 squares = 0;
    for (int column = lane; column < width && !bad; column += WARP) {
        const s64 fixed = __float2int_rn(__fmul_rn(source[column], unit));
        squares += fixed * fixed;
    }
    squares = warp_sum(squares);
    const double length = __dsqrt_rn(__ll2double_rn(squares));
    for (int column = lane; column < width; column += WARP) {
        float value = 0.0f;
        if (squares != 0) {
            // rint of a float is a float: a zero keeps its sign.
            const float fixed = rintf(__fmul_rn(source[column], unit));
            value = __double2float_rn(__ddiv_rn(static_cast<double>(fixed), length));
        }
        y[(s64)row * width + column] = value;
    }
}

// A row with a value that is not finite fails; failed rows become zeros.
extern "C" __global__ void finish(float* values, int rows, int width, u8* failed) {
    const int row = own_row(), lane = own_lane();
    if (row >= rows) return;
    float* own = values + (s64)row * width;
    u32 largest = 0;
    for (int column = lane; column < width; column += WARP) {
        largest = larger(largest, magnitude(own[column]));
    }
    const bool bad = warp_max(largest) >= 0x7f800000u || failed[row] != 0;
    if (!bad) return;
    if (lane == 0) failed[row] = 1;
    for (int column = lane; column < width; column += WARP) own[column] = 0.0f;
}
