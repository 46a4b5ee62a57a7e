// AVX-VNNI: the dot products of AVX-512 on 256 bits (Intel since Alder Lake).
#pragma once
#include "halves.h"

constexpr int ACTIVATION_OFFSET = 128;  // VPDPBUSD multiplies unsigned by signed bytes
// 12 sums, 2 registers of weights and a broadcast: 15 of 16 registers.
constexpr int BLOCK_ROWS = 6, BLOCK_PANELS = 1;
constexpr int ROW_STEPS = 1;
constexpr bool SCORES_IN_BYTES = false;
constexpr bool INT8_IN_TILES = false;

INLINE i32x16 dot_int8(i32x16 sum, i32x16 b, int32_t a) {
    __m256i row = _mm256_set1_epi32(a);
    return join((i32x8)_mm256_dpbusd_avx_epi32((__m256i)low(sum), row, (__m256i)low(b)),
                (i32x8)_mm256_dpbusd_avx_epi32((__m256i)high(sum), row, (__m256i)high(b)));
}
INLINE i32x16 dot_int16(i32x16 sum, i32x16 b, int32_t a) {
    __m256i row = _mm256_set1_epi32(a);
    return join((i32x8)_mm256_dpwssd_avx_epi32((__m256i)low(sum), row, (__m256i)low(b)),
                (i32x8)_mm256_dpwssd_avx_epi32((__m256i)high(sum), row, (__m256i)high(b)));
}
