// Attention on tensor cores: docs/EXACT.md, section 7.
//
// Keys come in groups of 32; a row's first key begins a group. A warp makes one head's results of
// 16 neighbouring queries, in three passes over the groups that they see: the largest score; the
// denominator and the largest weighted value scale; the sums of probabilities times values. Scores
// stay in shared memory where they fit (each lane reads only what it wrote), or are computed anew
// in each pass.
//
// Sums of at most 32,768 keys stay within int32: 2 · 128 · 128 · 32768 = 2^30.
#include "functions.cuh"

constexpr int GROUP = 32;
constexpr int QUERIES = 16;
constexpr int CHUNK = 32;         // columns of a head that one product takes
constexpr int KEY_TILES = GROUP / 8;
constexpr int VALUE_TILES = CHUNK / 8;
constexpr int GROUP_SCORES = KEY_TILES * 4;

// The value at `column` of a head: as the dense layer gave it, or turned by its place.
__device__ inline float turned(
    const float* head, int column, int half, const float* cosine, const float* sine) {
    if (cosine == nullptr) return head[column];
    const int pair = column < half ? column : column - half;
    const float first = head[pair], second = head[pair + half];
    if (column < half) {
        return __fsub_rn(__fmul_rn(first, cosine[pair]), __fmul_rn(second, sine[pair]));
    }
    return __fadd_rn(__fmul_rn(second, cosine[pair]), __fmul_rn(first, sine[pair]));
}

// Queries and keys of qkv [tokens, 3, heads, size] to slices [query or key, high or low, heads,
// padded_tokens, depth] and scales [query or key, heads, padded_tokens]. Query scales take in
// `factor`. A warp takes one token's query or key of one head.
extern "C" __global__ void split_queries_keys(
    const float* qkv, int tokens, int heads, int size, const float* cosine, const float* sine,
    const int* place, float factor, s8* slices, int padded_tokens, int depth, float* scale,
    u8* failed) {
    const s64 own = ((s64)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    const int lane = threadIdx.x % WARP;
    if (own >= (s64)tokens * 2 * heads) return;
    const int token = (int)(own / (2 * heads)), which = (int)(own % (2 * heads));
    const int part = which / heads, head = which % heads, half = size / 2;
    const float* source = qkv + (s64)token * 3 * heads * size + (s64)which * size;
    const float *own_cosine = nullptr, *own_sine = nullptr;
    if (cosine != nullptr) {
        own_cosine = cosine + (s64)place[token] * half;
        own_sine = sine + (s64)place[token] * half;
    }
    u32 largest = 0;
    for (int column = lane; column < size; column += WARP) {
        const float value = turned(source, column, half, own_cosine, own_sine);
        largest = larger(largest, magnitude(value));
    }
    largest = warp_max(largest);
    const bool bad = largest >= RANGE_BITS;
    if (bad) largest = 0;
    const Step step = step_of(largest, (float)LIMIT16);
    if (lane == 0) {
        const float own_scale = part == 0 ? __fmul_rn(step.scale, factor) : step.scale;
        scale[(s64)which * padded_tokens + token] = own_scale;
        if (bad) failed[token] = 1;
    }
    const s64 plane = (s64)heads * padded_tokens * depth;
    s8* high = slices + 2 * part * plane + ((s64)head * padded_tokens + token) * depth;
    for (int column = lane; column < depth; column += WARP) {
        int q = 0;
        if (column < size && !bad) {
            const float value = turned(source, column, half, own_cosine, own_sine);
            q = quantised(value, step.ratio, LIMIT16);
        }
        high[column] = (s8)high256(q);
        high[column + plane] = (s8)low256(q);
    }
}

// Where a key stands within its half group of 16, so that the scores that a lane holds are next
// to each other as a product's left operand: keys 2t, 2t+1, 8+2t, 8+2t+1 stand at 4t to 4t+3.
__device__ inline int key_at(int slot) {
    return (slot & 16) + 2 * ((slot & 15) >> 2) + (slot & 1) + ((slot & 2) << 2);
}

// Values of qkv to slices [high or low, heads, depth, 32·groups], keys in the order of key_at,
// and scales [heads, tokens]. What is beyond a row's end becomes zero. A block takes one group of
// one head: `group` [groups, 2] holds each one's first token and its number of tokens.
extern "C" __global__ void split_values(
    const float* qkv, const int* group, int groups, int heads, int size, s8* slices, int depth,
    float* scale, int padded_tokens, u8* failed) {
    __shared__ float ratio[GROUP];
    __shared__ s8 turned_slices[2][CHUNK][GROUP + 4];
    const int first = group[2 * blockIdx.x], count = group[2 * blockIdx.x + 1];
    const int head = blockIdx.y, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int warps = blockDim.x / WARP;
    const float* values = qkv + ((s64)first * 3 * heads + 2 * heads + head) * size;
    const s64 stride = (s64)3 * heads * size;
    for (int key = warp; key < count; key += warps) {
        u32 largest = 0;
        for (int column = lane; column < size; column += WARP) {
            largest = larger(largest, magnitude(values[key * stride + column]));
        }
        largest = warp_max(largest);
        const bool bad = largest >= RANGE_BITS;
        if (bad) largest = 0;
        const Step step = step_of(largest, (float)LIMIT16);
        if (lane == 0) {
            scale[(s64)head * padded_tokens + first + key] = step.scale;
            ratio[key] = bad ? 0.0f : step.ratio;
            if (bad) failed[first + key] = 1;
        }
    }
    __syncthreads();
    const s64 plane = (s64)heads * depth * groups * GROUP;
    s8* out = slices + ((s64)head * depth * groups + blockIdx.x) * GROUP;
    for (int chunk = 0; chunk < depth; chunk += CHUNK) {
        for (int slot = warp; slot < GROUP; slot += warps) {
            const int key = key_at(slot), column = chunk + lane;
            int q = 0;
            // A ratio of 0 marks a vector that is out of range.
            if (key < count && column < size && ratio[key] != 0.0f) {
                q = quantised(values[key * stride + column], ratio[key], LIMIT16);
            }
            turned_slices[0][lane][slot] = (s8)high256(q);
            turned_slices[1][lane][slot] = (s8)low256(q);
        }
        __syncthreads();
        for (int at = threadIdx.x; at < 2 * CHUNK * GROUP / 4; at += blockDim.x) {
            const int word = at % (GROUP / 4), column = at / (GROUP / 4) % CHUNK;
            const int slice = at / (GROUP / 4) / CHUNK;
            const s64 place = (s64)(chunk + column) * groups * GROUP + 4 * word;
            *reinterpret_cast<u32*>(out + slice * plane + place) =
                *reinterpret_cast<const u32*>(&turned_slices[slice][column][4 * word]);
        }
        __syncthreads();
    }
}

// One warp's work, and where it finds what.
struct Unit {
    int lane, head;
    int start;       // the row's first token
    int length;      // its tokens
    int query;       // the first of 16 queries, within the row
    int row_group;   // the group of the row's first key
    int first_group, last_group;  // those that the queries see, within the row
    int own[2];      // this lane's two queries, within the row
};

struct Heads {
    const s8* slices;     // of queries and keys
    const float* scale;   // of queries, keys and values
    const s8* values;
    int heads, padded_tokens, groups, depth, window;
};

__device__ inline u32 word(const s8* at) { return *reinterpret_cast<const u32*>(at); }

__device__ inline bool visible(const Heads& all, const Unit& unit, int query, int key) {
    const int apart = query > key ? query - key : key - query;
    return key < unit.length && (all.window == 0 || apart <= all.window);
}

// The key of score i of a tile, within the row.
__device__ inline int key_of(const Unit& unit, int group, int tile, int i) {
    return group * GROUP + 8 * tile + 2 * (unit.lane & 3) + (i & 1);
}

// A group's scores, minus infinity where a key is not seen: tile by tile, as products lie.
__device__ inline void score_group(
    const Heads& all, const Unit& unit, int group, const float (&query_scale)[2],
    float (&z)[KEY_TILES][4]) {
    const int g = unit.lane / 4, t = unit.lane % 4;
    const s64 plane = (s64)all.heads * all.padded_tokens * all.depth;
    const s8* head = all.slices + ((s64)unit.head * all.padded_tokens + unit.start) * all.depth;
    const s8* queries[2] = {head + (s64)unit.own[0] * all.depth + 4 * t,
                            head + (s64)unit.own[1] * all.depth + 4 * t};
    const s8* keys = head + 2 * plane + (s64)(group * GROUP + g) * all.depth + 4 * t;
    const float* key_scale =
        all.scale + (s64)(all.heads + unit.head) * all.padded_tokens + unit.start;
    int sum[KEY_TILES][3][4];
    for (int tile = 0; tile < KEY_TILES; tile++)
        for (int s = 0; s < 3; s++)
            for (int i = 0; i < 4; i++) sum[tile][s][i] = 0;
    for (int column = 0; column < all.depth; column += CHUNK) {
        u32 q[2][4];
        for (int slice = 0; slice < 2; slice++) {
            for (int i = 0; i < 4; i++) {
                q[slice][i] = word(queries[i & 1] + slice * plane + column + 16 * (i >> 1));
            }
        }
        for (int tile = 0; tile < KEY_TILES; tile++) {
            u32 k[2][2];
            for (int slice = 0; slice < 2; slice++) {
                for (int i = 0; i < 2; i++) {
                    const s64 place = (s64)8 * tile * all.depth + column + 16 * i;
                    k[slice][i] = word(keys + slice * plane + place);
                }
            }
            multiply_add(sum[tile][0], q[0], k[0]);
            multiply_add(sum[tile][1], q[0], k[1]);
            multiply_add(sum[tile][1], q[1], k[0]);
            multiply_add(sum[tile][2], q[1], k[1]);
        }
    }
    for (int tile = 0; tile < KEY_TILES; tile++) {
        for (int i = 0; i < 4; i++) {
            const int key = key_of(unit, group, tile, i);
            const s64 dot = 65536 * (s64)sum[tile][0][i] + 256 * (s64)sum[tile][1][i] +
                            (s64)sum[tile][2][i];
            if (visible(all, unit, unit.own[i >> 1], key)) {
                const float scaled = __fmul_rn(__ll2float_rn(dot), query_scale[i >> 1]);
                z[tile][i] = __fmul_rn(scaled, key_scale[key]);
            } else {
                z[tile][i] = -__int_as_float(0x7f800000);
            }
        }
    }
}

// One byte of each of four words, lowest first.
__device__ inline u32 bytes_of(const int (&p)[4], int byte) {
    const u32 pick = 0x40 + 0x11 * byte;
    return __byte_perm(__byte_perm(p[0], p[1], pick), __byte_perm(p[2], p[3], pick), 0x5410);
}

// Three balanced slices of probabilities, highest first, from those with 0x8080 added.
__device__ inline void slice_probabilities(const int (&p)[4], u32 (&slices)[3][4], int at) {
    slices[0][at] = bytes_of(p, 2);
    slices[1][at] = bytes_of(p, 1) ^ 0x80808080u;
    slices[2][at] = bytes_of(p, 0) ^ 0x80808080u;
}

// The four lanes that hold a query's scores agree on a value.
__device__ inline float quad_max(float value) {
    value = larger(value, __shfl_xor_sync(EVERY_LANE, value, 1));
    return larger(value, __shfl_xor_sync(EVERY_LANE, value, 2));
}

__device__ inline s64 quad_sum(s64 value) {
    value += __shfl_xor_sync(EVERY_LANE, value, 1);
    return value + __shfl_xor_sync(EVERY_LANE, value, 2);
}

// `stored` is the lane's place in shared memory, [groups][16][lanes].
template <bool STORED>
__device__ inline void attend(
    const Heads& all, const Unit& unit, float* stored, float* context, u8* failed, int size) {
    const float infinity = __int_as_float(0x7f800000);
    const float* query_scales = all.scale + (s64)unit.head * all.padded_tokens + unit.start;
    const float* value_scale =
        all.scale + (s64)(2 * all.heads + unit.head) * all.padded_tokens + unit.start;
    const float query_scale[2] = {query_scales[unit.own[0]], query_scales[unit.own[1]]};
    float most[2] = {-infinity, -infinity};
    for (int group = unit.first_group; group <= unit.last_group; group++) {
        float z[KEY_TILES][4];
        score_group(all, unit, group, query_scale, z);
        for (int tile = 0; tile < KEY_TILES; tile++) {
            for (int i = 0; i < 4; i++) {
                most[i >> 1] = larger(most[i >> 1], z[tile][i]);
                if (STORED) {
                    const int place = (group - unit.first_group) * GROUP_SCORES + 4 * tile + i;
                    stored[place * WARP] = z[tile][i];
                }
            }
        }
    }
    bool bad[2];
    for (int r = 0; r < 2; r++) {
        most[r] = quad_max(most[r]);
        bad[r] = magnitude(most[r]) >= 0x7f800000u;
        if (bad[r]) {
            most[r] = 0.0f;
            if ((unit.lane & 3) == 0) failed[unit.start + unit.own[r]] = 1;
        }
    }
    s64 denominator[2] = {0, 0};
    float a[2] = {0.0f, 0.0f};
    for (int group = unit.first_group; group <= unit.last_group; group++) {
        float z[KEY_TILES][4];
        if (!STORED) score_group(all, unit, group, query_scale, z);
        for (int tile = 0; tile < KEY_TILES; tile++) {
            for (int i = 0; i < 4; i++) {
                const int r = i >> 1, key = key_of(unit, group, tile, i);
                const int place = (group - unit.first_group) * GROUP_SCORES + 4 * tile + i;
                float weighted = 0.0f;
                if (visible(all, unit, unit.own[r], key)) {
                    const float score = STORED ? stored[place * WARP] : z[tile][i];
                    const float e = exp2_of(bad[r] ? 0.0f : __fsub_rn(score, most[r]));
                    denominator[r] += __float2ll_rn(__fmul_rn(e, 0x1p38f));
                    weighted = __fmul_rn(e, value_scale[key]);
                    a[r] = larger(a[r], weighted);
                }
                if (STORED) stored[place * WARP] = weighted;
            }
        }
    }
    const float top = (float)LIMIT_PROBABILITY;
    float ratio[2], factor[2];
    for (int r = 0; r < 2; r++) {
        a[r] = quad_max(a[r]);
        ratio[r] = __fdiv_rn(top, a[r]);
        const float below = __fmul_rn(__ll2float_rn(quad_sum(denominator[r])), 0x1p-38f);
        factor[r] = __fdiv_rn(__fdiv_rn(a[r], top), below);
    }
    const s64 value_stride = (s64)all.groups * GROUP;
    const s64 plane = (s64)all.heads * all.depth * value_stride;
    const s8* values = all.values +
                       ((s64)unit.head * all.depth + unit.lane / 4) * value_stride +
                       (s64)unit.row_group * GROUP + 4 * (unit.lane & 3);
    for (int chunk = 0; chunk < size; chunk += CHUNK) {
        // Sums of slices whose products weigh 2^24, 2^16, 2^8 and 1.
        int sum[VALUE_TILES][4][4];
        for (int tile = 0; tile < VALUE_TILES; tile++)
            for (int s = 0; s < 4; s++)
                for (int i = 0; i < 4; i++) sum[tile][s][i] = 0;
        for (int group = unit.first_group; group <= unit.last_group; group++) {
            float z[KEY_TILES][4];
            if (!STORED) score_group(all, unit, group, query_scale, z);
            u32 p[3][4];
            for (int pair = 0; pair < 2; pair++) {
                for (int r = 0; r < 2; r++) {
                    int some[4];
                    for (int i = 0; i < 4; i++) {
                        const int tile = 2 * pair + (i >> 1), score = 2 * r + (i & 1);
                        const int place =
                            (group - unit.first_group) * GROUP_SCORES + 4 * tile + score;
                        float weighted = 0.0f;
                        if (STORED) {
                            weighted = stored[place * WARP];
                        } else {
                            const int key = key_of(unit, group, tile, score);
                            if (visible(all, unit, unit.own[r], key)) {
                                const float e = exp2_of(
                                    bad[r] ? 0.0f : __fsub_rn(z[tile][score], most[r]));
                                weighted = __fmul_rn(e, value_scale[key]);
                            }
                        }
                        const int q = __float2int_rn(__fmul_rn(weighted, ratio[r]));
                        some[i] = smaller(q, LIMIT_PROBABILITY) + 0x8080;
                    }
                    slice_probabilities(some, p, 2 * pair + r);
                }
            }
            for (int tile = 0; tile < VALUE_TILES; tile++) {
                const s8* place =
                    values + (s64)(chunk + 8 * tile) * value_stride + (s64)group * GROUP;
                u32 v[2][2];
                for (int slice = 0; slice < 2; slice++) {
                    for (int i = 0; i < 2; i++) v[slice][i] = word(place + slice * plane + 16 * i);
                }
                multiply_add(sum[tile][0], p[0], v[0]);
                multiply_add(sum[tile][1], p[0], v[1]);
                multiply_add(sum[tile][1], p[1], v[0]);
                multiply_add(sum[tile][2], p[1], v[1]);
                multiply_add(sum[tile][2], p[2], v[0]);
                multiply_add(sum[tile][3], p[2], v[1]);
            }
        }
        for (int tile = 0; tile < VALUE_TILES; tile++) {
            for (int i = 0; i < 4; i++) {
                const int column = chunk + 8 * tile + 2 * (unit.lane & 3) + (i & 1);
                const int query = unit.query + unit.lane / 4 + 8 * (i >> 1);
                if (column >= size || query >= unit.length) continue;
                const s64 total = 16777216 * (s64)sum[tile][0][i] +
                                  65536 * (s64)sum[tile][1][i] + 256 * (s64)sum[tile][2][i] +
                                  (s64)sum[tile][3][i];
                const s64 token = unit.start + query;
                context[(token * all.heads + unit.head) * size + column] =
                    __fmul_rn(__ll2float_rn(total), factor[i >> 1]);
            }
        }
    }
}

// `unit` [.., 4]: a row's first token, its length, the first of 16 queries within it, the group
// of its first key. Blocks along x take units, along y heads; `most_groups` is for how many
// groups a warp has room in shared memory.
template <bool STORED>
__device__ inline void attend_unit(
    const Heads& all, const int* unit_table, int first_unit, int units, int most_groups,
    float* context, u8* failed, int size) {
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int own = blockIdx.x * (blockDim.x / WARP) + warp;
    if (own >= units) return;
    const int* entry = unit_table + 4 * (s64)(first_unit + own);
    Unit unit;
    unit.lane = lane;
    unit.head = blockIdx.y;
    unit.start = entry[0];
    unit.length = entry[1];
    unit.query = entry[2];
    unit.row_group = entry[3];
    const int last = unit.length - 1;
    int first_key = 0, last_key = last;
    if (all.window != 0) {
        const int last_query = smaller(unit.query + QUERIES - 1, last);
        first_key = unit.query > all.window ? unit.query - all.window : 0;
        last_key = smaller(last_query + all.window, last);
    }
    unit.first_group = first_key / GROUP;
    unit.last_group = last_key / GROUP;
    // Beyond the row's end a lane follows its last query, and writes nothing.
    for (int r = 0; r < 2; r++) unit.own[r] = smaller(unit.query + lane / 4 + 8 * r, last);
    float* stored = nullptr;
    if (STORED) {
        stored = reinterpret_cast<float*>(shared_memory()) +
                 (s64)warp * most_groups * GROUP_SCORES * WARP + lane;
    }
    attend<STORED>(all, unit, stored, context, failed, size);
}

extern "C" __global__ void attend_stored(
    const s8* slices, const float* scale, const s8* values, int heads, int padded_tokens,
    int groups, int depth, int window, const int* unit_table, int first_unit, int units,
    int most_groups, int size, float* context, u8* failed) {
    const Heads all = {slices, scale, values, heads, padded_tokens, groups, depth, window};
    attend_unit<true>(all, unit_table, first_unit, units, most_groups, context, failed, size);
}

extern "C" __global__ void attend_anew(
    const s8* slices, const float* scale, const s8* values, int heads, int padded_tokens,
    int groups, int depth, int window, const int* unit_table, int first_unit, int units,
    int most_groups, int size, float* context, u8* failed) {
    const Heads all = {slices, scale, values, heads, padded_tokens, groups, depth, window};
    attend_unit<false>(all, unit_table, first_unit, units, most_groups, context, failed, size);
}
