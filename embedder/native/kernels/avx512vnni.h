// AVX-512 with VNNI (Intel since Ice Lake, AMD since Zen 4): a register holds a whole panel step.
#pragma once
#include <immintrin.h>

#include "../lanes.h"

constexpr int ACTIVATION_OFFSET = 128;  // VPDPBUSD multiplies unsigned by signed bytes
// 24 sums hide the latency of two products per cycle; 3 loads and 8 broadcasts feed 24 products.
constexpr int BLOCK_ROWS = 8, BLOCK_PANELS = 3;
constexpr int ROW_STEPS = 1;
constexpr bool SCORES_IN_BYTES = false;
constexpr bool INT8_IN_TILES = false;

INLINE i32x16 dot_int8(i32x16 sum, i32x16 b, int32_t a) {
    return (i32x16)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(a), (__m512i)b);
}
INLINE i32x16 dot_int16(i32x16 sum, i32x16 b, int32_t a) {
    return (i32x16)_mm512_dpwssd_epi32((__m512i)sum, _mm512_set1_epi32(a), (__m512i)b);
}
