// A panel step in two registers of 256 bits.
#pragma once
#include <immintrin.h>

#include "../lanes.h"

typedef int32_t i32x8 __attribute__((vector_size(32)));

INLINE i32x8 low(i32x16 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
INLINE i32x8 high(i32x16 v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }
INLINE i32x16 join(i32x8 a, i32x8 b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
