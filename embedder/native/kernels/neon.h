// The common part of the kernels for ARM.
#pragma once
#include <arm_neon.h>

#include "../lanes.h"

constexpr int ACTIVATION_OFFSET = 0;
// The sums take 16 registers; two steps take 4 more for the rows and 8 for the weights. With four
// steps clang loads 16 registers of weights in advance and spills 5 of them.
constexpr int BLOCK_ROWS = 4, BLOCK_PANELS = 1;
constexpr int ROW_STEPS = 2;
constexpr bool SCORES_IN_BYTES = true;  // there is no dot product of 16 bits

template <int I>
INLINE int32x4_t quarter(i32x16 v) {
    return __builtin_shufflevector(v, v, 4 * I, 4 * I + 1, 4 * I + 2, 4 * I + 3);
}
INLINE i32x16 join(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
    auto low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    auto high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
template <int I>
INLINE int32x4_t dot_quarter(i32x16 sum, i32x16 b, int8x16_t row) {
    return vdotq_s32(quarter<I>(sum), vreinterpretq_s8_s32(quarter<I>(b)), row);
}
INLINE i32x16 dot_int8(i32x16 sum, i32x16 b, int32_t a) {
    int8x16_t row = vreinterpretq_s8_s32(vdupq_n_s32(a));
    return join(dot_quarter<0>(sum, b, row), dot_quarter<1>(sum, b, row),
                dot_quarter<2>(sum, b, row), dot_quarter<3>(sum, b, row));
}
