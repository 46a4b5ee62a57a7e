// How int8 models store queries and keys, which have 12 bits: 16 values become eight 32-bit words.
#pragma once
#include "products.h"

namespace {

// Two values per word, for kernels that multiply 16-bit numbers.
struct ScorePairs {
    typedef Int16Step Step;

    INLINE i16x16 words(i32x16 values) { return __builtin_convertvector(values, i16x16); }
    // Index of word i of the values d to d + 15 in a row of n values.
    INLINE int place(int d, int, int i) { return d / 2 + i; }
    INLINE void put_query(i16x16 words, int d, int, uint8_t* query) { store(query + d * 2, words); }
};

// Two planes of bytes, four values per word, for kernels that multiply 8-bit numbers:
// v = 64 * high + low, with -32 <= low < 32 and |high| <= 32.
struct ScorePlanes {
    typedef PlanesStep Step;

    INLINE i16x16 words(i32x16 values) {
        i32x16 high = (values + 32) >> 6;
        i8x16 bytes[2] = {__builtin_convertvector(high, i8x16),
                          __builtin_convertvector(values - (high << 6), i8x16)};
        return load<i16x16>(bytes);
    }
    INLINE int place(int d, int n, int i) { return i / 4 * (n / 4) + d / 4 + i % 4; }
    INLINE void put_query(i16x16 words, int d, int n, uint8_t* query) {
        typedef int64_t i64x4 __attribute__((vector_size(32)));
        typedef int64_t i64x2 __attribute__((vector_size(16)));
        i64x4 planes = (i64x4)words;
        store(query + d, (i64x2){planes[0], planes[1]});
        store(query + n + d, (i64x2){planes[2], planes[3]});
    }
};

template <bool IN_BYTES>
struct ScoresOf : ScorePairs {};
template <>
struct ScoresOf<true> : ScorePlanes {};
typedef ScoresOf<SCORES_IN_BYTES> Scores;

}  // namespace
