// Activation functions, sixteen lanes at a time.
#pragma once
#include "engine.h"
#include "lanes.h"

// x / (1 + e^-2z) with z = sqrt(2 / pi) (x + 0.044715 x^3) equals x (1 + tanh z) / 2.
INLINE f32x16 gelu_tanh(f32x16 x) {
    constexpr float A = -2 * 0.7978845608f, B = A * 0.044715f;
    f32x16 z = x * fma(x * x, splat(B), splat(A));
    return x / (exp(z) + 1.0f);
}

// x (1 + erf(x / sqrt 2)) / 2 with erf as in Abramowitz and Stegun, 7.1.26: |error| < 1.5e-7.
INLINE f32x16 gelu(f32x16 x) {
    f32x16 y = abs(x) * 0.70710678f;
    f32x16 t = 1.0f / fma(y, splat(0.3275911f), splat(1.0f));
    f32x16 p = splat(1.061405429f);
    p = fma(p, t, splat(-1.453152027f));
    p = fma(p, t, splat(1.421413741f));
    p = fma(p, t, splat(-0.284496736f));
    p = fma(p, t, splat(0.254829592f));
    f32x16 half_tail = p * t * exp(-(y * y)) * 0.5f;  // (1 - erf y) / 2
    return x * (x < 0.0f ? half_tail : 1.0f - half_tail);
}

INLINE f32x16 tanh(f32x16 x) { return 1.0f - 2.0f / (exp(x * 2.0f) + 1.0f); }

INLINE f32x16 activate(int activation, f32x16 x) {
    switch (activation) {
        case NATIVE_TANH:
            return tanh(x);
        case NATIVE_GELU:
            return gelu(x);
        case NATIVE_GELU_TANH:
            return gelu_tanh(x);
        case NATIVE_RELU:
            return max(x, splat(0.0f));
        default:
            return x;
    }
}
