// Row arithmetic: norms, rotation, rounding to integers. The length of a row is a multiple of 16.
#pragma once
#include "lanes.h"

// The sum of f(k) over every vector of a row of n values. Four partial sums hide the latency of an
// addition.
template <class F>
INLINE float sum_over(int n, const F& f) {
    f32x16 sums[4] = {};
    int k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
#pragma clang loop unroll(full)
        for (int i = 0; i < 4; i++) sums[i] = f(k + i * LANES, sums[i]);
    }
    for (; k < n; k += LANES) sums[0] = f(k, sums[0]);
    return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}
INLINE float sum_of_squares(const float* x, int n) {
    return sum_over(n, [&](int k, f32x16 sum) { return fma(load(x + k), load(x + k), sum); });
}
INLINE float rms_factor(float squares, int n, float epsilon) {
    return 1.0f / square_root(squares / (float)n + epsilon);
}

// x = (x + norm(y)) * scale; returns the sum of the squares of x.
INLINE float add_normed(float* x, const float* y, const float* weight, float scale, int n,
                        float epsilon) {
    float factor = rms_factor(sum_of_squares(y, n), n, epsilon);
    return sum_over(n, [&](int k, f32x16 sum) {
        f32x16 value = fma(load(y + k) * factor, load(weight + k), load(x + k)) * scale;
        store(x + k, value);
        return fma(value, value, sum);
    });
}

// x = (x - mean) / sqrt(variance + epsilon) * weight + bias
INLINE void layer_norm(float* x, const float* weight, const float* bias, int n, float epsilon) {
    float mean = sum_over(n, [&](int k, f32x16 sum) { return sum + load(x + k); }) / (float)n;
    float squares = sum_over(n, [&](int k, f32x16 sum) {
        f32x16 centred = load(x + k) - mean;
        return fma(centred, centred, sum);
    });
    float factor = rms_factor(squares, n, epsilon);
    for (int k = 0; k < n; k += LANES)
        store(x + k, fma((load(x + k) - mean) * factor, load(weight + k), load(bias + k)));
}

// The block size of a rotation: the largest power of two <= 128 that divides n, a multiple of 16.
constexpr int rotation_block(int n) {
    int block = LANES;
    while (block < 128 && n % (2 * block) == 0) block *= 2;
    return block;
}

// One stage of the transform within a vector: lane i becomes x[i] + x[i ^ stride], or
// x[i ^ stride] - x[i] where i has the bit `stride`.
#define LANE_STAGE(x, stride, sign, ...) fma(x, sign, __builtin_shufflevector(x, x, __VA_ARGS__))

INLINE f32x16 rotate_lanes(f32x16 x) {
    const f32x16 s1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
    const f32x16 s2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
    const f32x16 s4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
    const f32x16 s8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    x = LANE_STAGE(x, 1, s1, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    x = LANE_STAGE(x, 2, s2, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    x = LANE_STAGE(x, 4, s4, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    return LANE_STAGE(x, 8, s8, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
}

// Multiplies a block of 16 * VECTORS values by `weight`, if WEIGHTED, and by a Hadamard matrix of
// ones and minus ones. Returns the largest |value| of each lane.
template <int VECTORS, bool WEIGHTED>
INLINE f32x16 rotate_block(const float* x, const float* weight, float* to) {
    f32x16 v[VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < VECTORS; i++) {
        f32x16 value = load(x + i * LANES);
        v[i] = rotate_lanes(WEIGHTED ? value * load(weight + i * LANES) : value);
    }
#pragma clang loop unroll(full)
    for (int stride = 1; stride < VECTORS; stride *= 2)
#pragma clang loop unroll(full)
        for (int i = 0; i < VECTORS; i++) {
            if (i & stride) continue;
            f32x16 a = v[i], b = v[i + stride];
            v[i] = a + b;
            v[i + stride] = a - b;
        }
    f32x16 largest = {};
#pragma clang loop unroll(full)
    for (int i = 0; i < VECTORS; i++) {
        largest = max(abs(v[i]), largest);
        store(to + i * LANES, v[i]);
    }
    return largest;
}

template <int VECTORS, bool WEIGHTED>
INLINE float rotate_blocks(const float* x, const float* weight, int n, float* to) {
    f32x16 largest = {};
    for (int k = 0; k < n; k += VECTORS * LANES) {
        const float* own = WEIGHTED ? weight + k : nullptr;
        largest = max(rotate_block<VECTORS, WEIGHTED>(x + k, own, to + k), largest);
    }
    return max_lane(largest);
}

// Rotates a row block by block and returns its largest |value|. The rotation spreads an outlier
// over its block, so that it no longer sets the scale of the other values (mean cosine to fp32:
// 0.9965 without, 0.9996 with).
template <bool WEIGHTED>
INLINE float rotate_row(const float* x, const float* weight, int n, float* to) {
    switch (rotation_block(n)) {
        case 128:
            return rotate_blocks<8, WEIGHTED>(x, weight, n, to);
        case 64:
            return rotate_blocks<4, WEIGHTED>(x, weight, n, to);
        case 32:
            return rotate_blocks<2, WEIGHTED>(x, weight, n, to);
        default:
            return rotate_blocks<1, WEIGHTED>(x, weight, n, to);
    }
}

INLINE float largest_in_row(const float* x, int n) {
    f32x16 largest = {};
    for (int k = 0; k < n; k += LANES) largest = max(abs(load(x + k)), largest);
    return max_lane(largest);
}

constexpr float TINY = 1e-30f;  // keeps a row of zeros from dividing by zero

// Rounds x to bytes with x = byte * scale, and adds the kernel's offset. Returns the scale.
INLINE float round_to_int8(const float* x, int n, float largest, uint8_t* bytes) {
    float bound = largest > TINY ? largest : TINY, factor = 127.0f / bound;
    for (int k = 0; k < n; k += LANES) {
        i32x16 value = round_to_int(load(x + k) * factor) + ACTIVATION_OFFSET;
        store(bytes + k, __builtin_convertvector(value, i8x16));
    }
    return bound / 127.0f;
}
