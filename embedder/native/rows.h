// Row arithmetic: norms, rotation, rounding to integers. A row is a whole number of 16-lane vectors.
#pragma once
#include "lanes.h"

// 1 / sqrt(mean(x^2) + epsilon)
INLINE float rms_factor(const float* x, int n, float epsilon) {
    f32x16 squares = {};
    for (int k = 0; k < n; k += LANES) squares = fma(load(x + k), load(x + k), squares);
    return 1.0f / square_root(sum(squares) / (float)n + epsilon);
}

// y = x * factor * weight
INLINE void scale_row(const float* x, float factor, const float* weight, int n, float* y) {
    for (int k = 0; k < n; k += LANES) store(y + k, load(x + k) * factor * load(weight + k));
}

// x += y * factor * weight
INLINE void add_scaled(float* x, const float* y, float factor, const float* weight, int n) {
    for (int k = 0; k < n; k += LANES)
        store(x + k, fma(load(y + k) * factor, load(weight + k), load(x + k)));
}

// x = (x - mean) / sqrt(variance + epsilon) * weight + bias
INLINE void layer_norm(float* x, const float* weight, const float* bias, int n, float epsilon) {
    f32x16 total = {}, squares = {};
    for (int k = 0; k < n; k += LANES) total += load(x + k);
    float mean = sum(total) / (float)n;
    for (int k = 0; k < n; k += LANES) {
        f32x16 centred = load(x + k) - mean;
        squares = fma(centred, centred, squares);
    }
    float factor = 1.0f / square_root(sum(squares) / (float)n + epsilon);
    for (int k = 0; k < n; k += LANES)
        store(x + k, fma((load(x + k) - mean) * factor, load(weight + k), load(bias + k)));
}

// Largest power of two <= 128 that divides n, n a multiple of 16: the size of a rotation's blocks.
constexpr int rotation_block(int n) {
    int block = LANES;
    while (block < 128 && n % (2 * block) == 0) block *= 2;
    return block;
}

// One stage inside the lanes: lane i becomes x[i] + x[i ^ stride], or x[i ^ stride] - x[i] where i has the bit.
#define LANE_STAGE(x, stride, sign, ...) \
    fma(x, sign, __builtin_shufflevector(x, x, __VA_ARGS__))

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

// A block of 16 * VECTORS values times a Hadamard matrix of ones and minus ones; returns the largest |value|.
template <int VECTORS>
INLINE f32x16 rotate_block(float* x) {
    f32x16 v[VECTORS];
#pragma clang loop unroll(full)
    for (int i = 0; i < VECTORS; i++) v[i] = rotate_lanes(load(x + i * LANES));
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
        store(x + i * LANES, v[i]);
    }
    return largest;
}

// Rotates a row block by block and returns its largest |value|. Outliers spread over their block, so that
// one of them no longer sets the scale of the others (mean cosine to fp32 0.9965 without, 0.9996 with).
INLINE float rotate_row(float* x, int n) {
    f32x16 largest = {};
    int block = rotation_block(n);
    for (int k = 0; k < n; k += block) {
        f32x16 found = block == 128  ? rotate_block<8>(x + k)
                       : block == 64 ? rotate_block<4>(x + k)
                       : block == 32 ? rotate_block<2>(x + k)
                                     : rotate_block<1>(x + k);
        largest = max(found, largest);
    }
    return max_lane(largest);
}

INLINE float largest_in_row(const float* x, int n) {
    f32x16 largest = {};
    for (int k = 0; k < n; k += LANES) largest = max(abs(load(x + k)), largest);
    return max_lane(largest);
}

constexpr float TINY = 1e-30f;  // keeps a row of zeros from dividing by zero

// x to bytes, x = byte * scale. The bytes carry the kernel's offset.
INLINE float round_to_int8(const float* x, int n, float largest, uint8_t* bytes) {
    float bound = largest > TINY ? largest : TINY, factor = 127.0f / bound;
    for (int k = 0; k < n; k += LANES) {
        i32x16 value = round_to_int(load(x + k) * factor) + ACTIVATION_OFFSET;
        store(bytes + k, __builtin_convertvector(value, i8x16));
    }
    return bound / 127.0f;
}
