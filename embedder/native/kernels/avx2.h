// AVX2 with FMA (Intel since Haswell, AMD since Zen).
#pragma once
#include "halves.h"

constexpr int ACTIVATION_OFFSET = 0;
constexpr int BLOCK_ROWS = 4, BLOCK_PANELS = 1;
constexpr int ROW_STEPS = 1;
constexpr bool SCORES_IN_BYTES = false;
constexpr bool INT8_IN_TILES = false;

// VPMADDUBSW saturates at 16 bits. Multiplying |a| <= 127 by the weight with the sign of a gives at
// most 127 * 127, and the sum of two such products fits (32,258). So the result is exact, for one
// more instruction than with unsigned activations.
INLINE i32x8 dot_half(i32x8 sum, i32x8 b, __m256i a, __m256i a_abs) {
    __m256i pairs = _mm256_maddubs_epi16(a_abs, _mm256_sign_epi8((__m256i)b, a));
    return sum + (i32x8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
INLINE i32x16 dot_int8(i32x16 sum, i32x16 b, int32_t a) {
    __m256i row = _mm256_set1_epi32(a), row_abs = _mm256_abs_epi8(row);
    return join(dot_half(low(sum), low(b), row, row_abs),
                dot_half(high(sum), high(b), row, row_abs));
}
INLINE i32x16 dot_int16(i32x16 sum, i32x16 b, int32_t a) {
    __m256i row = _mm256_set1_epi32(a);
    return join(low(sum) + (i32x8)_mm256_madd_epi16((__m256i)low(b), row),
                high(sum) + (i32x8)_mm256_madd_epi16((__m256i)high(b), row));
}
