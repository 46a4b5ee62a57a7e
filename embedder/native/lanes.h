// Vectors of sixteen lanes, in which everything but integer products is computed.
//
// clang compiles these vectors to any instruction set. Every operation is exact or correctly
// rounded, and every sum has a fixed order, so results have the same bits on every CPU. That rules
// out contraction (-ffp-contract=off), reciprocal estimates and functions of the C library.
#pragma once
#include <stdint.h>

#include "inline.h"

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef _Float16 f16x16 __attribute__((vector_size(32)));

constexpr int LANES = 16;

template <class V, class T>
INLINE V load(const T* from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
template <class V, class T>
INLINE void store(T* to, V v) {
    __builtin_memcpy(to, &v, sizeof v);
}
INLINE f32x16 load(const float* from) { return load<f32x16>(from); }

INLINE f32x16 splat(float x) { return f32x16{} + x; }
INLINE i32x16 splat(int32_t x) { return i32x16{} + x; }
INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return __builtin_elementwise_fma(a, b, c); }
INLINE f32x16 abs(f32x16 x) { return __builtin_elementwise_abs(x); }
// The larger of each pair; b where one of them is NaN.
INLINE f32x16 max(f32x16 a, f32x16 b) { return a > b ? a : b; }
INLINE f32x16 min(f32x16 a, f32x16 b) { return a < b ? a : b; }
INLINE f32x16 to_float(i32x16 x) { return __builtin_convertvector(x, f32x16); }
INLINE f32x16 to_float(i8x16 x) { return __builtin_convertvector(x, f32x16); }
INLINE f32x16 to_float(f16x16 x) { return __builtin_convertvector(x, f32x16); }

// 1.5 * 2^23: added to |x| < 2^22 it leaves x, rounded half to even, in the low bits.
constexpr float ROUNDER = 12582912.0f;

INLINE i32x16 round_to_int(f32x16 x) { return (i32x16)(x + ROUNDER) - (i32x16)splat(ROUNDER); }

INLINE float sum(f32x16 v) {
    typedef float f32x8 __attribute__((vector_size(32)));
    typedef float f32x4 __attribute__((vector_size(16)));
    f32x8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
              __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    f32x4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}
INLINE float max_lane(f32x16 v) {
    v = max(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = max(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    v = max(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
    float a = v[0], b = v[1];
    return a > b ? a : b;
}
// Correctly rounded on every CPU, as IEEE 754 requires.
INLINE float square_root(float x) { return __builtin_elementwise_sqrt(x); }

// e^x for x in [-87, 88] to 1.5 units in the last place: 2^n * p(r), r = x - n ln 2 (Cephes, expf).
INLINE f32x16 exp_in_range(f32x16 x) {
    f32x16 shifted = fma(x, splat(1.44269504f), splat(ROUNDER));
    f32x16 n = shifted - ROUNDER;
    f32x16 r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    f32x16 p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(r * r, p, r + 1.0f);
    return (f32x16)((u32x16)p + ((u32x16)shifted << 23));
}
// e^x, 0 below -87 and e^88 above 88.
INLINE f32x16 exp(f32x16 x) {
    f32x16 y = exp_in_range(min(max(x, splat(-87.0f)), splat(88.0f)));
    return x < -87.0f ? splat(0.0f) : y;
}
