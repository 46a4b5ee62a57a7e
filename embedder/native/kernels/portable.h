// Any CPU: plain vector code, as the compiler translates it.
#pragma once
#include "../lanes.h"

constexpr int ACTIVATION_OFFSET = 0;
constexpr int BLOCK_ROWS = 2, BLOCK_PANELS = 1;
constexpr int ROW_STEPS = 1;
constexpr bool SCORES_IN_BYTES = false;
constexpr bool INT8_IN_TILES = false;

// The signed byte `place` (0 to 3) of every lane: shifted to the top, then back down.
INLINE i32x16 byte_of(i32x16 v, int place) { return (i32x16)((u32x16)v << (24 - 8 * place)) >> 24; }

INLINE i32x16 dot_int8(i32x16 sum, i32x16 b, int32_t a) {
    for (int place = 0; place < 4; place++) sum += byte_of(b, place) * (int8_t)(a >> 8 * place);
    return sum;
}
INLINE i32x16 dot_int16(i32x16 sum, i32x16 b, int32_t a) {
    i32x16 even = (i32x16)((u32x16)b << 16) >> 16, odd = b >> 16;
    return sum + even * (int16_t)a + odd * (int16_t)(a >> 16);
}
