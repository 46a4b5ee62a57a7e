// The differences between int8, fp16 and fp32 models: how rows become inputs of products, and how
// queries, keys and values are stored for attention.
#pragma once
#include "pack.h"
#include "products.h"
#include "rows.h"
#include "scores.h"

namespace {

// int8 with a scale per row. Attention scores use 12-bit queries and keys: rounding to 8 bits
// would change a score by 1 % of the scores' standard deviation (calculated), and 512 products of
// 2,047 * 2,047 fit in 32 bits. Weighted values use probabilities of 7 bits and values of 8.
struct Int8 {
    typedef Int8Step Weight;
    typedef Scores::Step Score;
    typedef Int8Step Value;
    static constexpr int BYTES = 1;            // of an input of a product
    static constexpr float LARGEST = 2047.0f;  // of a query or key

    INLINE f32x16 table_row(const uint8_t* table, const float* scale, int id, int width, int k) {
        return to_float(load<i8x16>(table + (size_t)id * width + k)) * scale[id];
    }
    // Rotates and rounds a row to the input of a product. `values` is scratch memory for a row.
    INLINE void put_input(const float* x, int n, uint8_t* input, float* scale, float* values) {
        *scale = round_to_int8(values, n, rotate_row<false>(x, nullptr, n, values), input);
    }
    // The same of x * factor * weight. The factor only changes the scale.
    INLINE void put_normed(const float* x, float factor, const float* weight, int n, uint8_t* input,
                           float* scale, float* values) {
        float largest = rotate_row<true>(x, weight, n, values);
        *scale = round_to_int8(values, n, largest, input) * factor;
    }
    // The same of a row that the weights before it have rotated.
    INLINE void put_rotated(const float* x, int n, uint8_t* input, float* scale) {
        *scale = round_to_int8(x, n, largest_in_row(x, n), input);
    }
    INLINE f32x16 output(i32x16 sum, const float* scale, int panel, float row_scale) {
        return to_float(sum) * load(scale + panel * LANES) * row_scale;
    }

    INLINE i16x16 score_words(const float* x, float factor) {
        return Scores::words(round_to_int(load(x) * factor));
    }
    INLINE void put_query(const float* x, int n, uint8_t* query, float* scale) {
        float factor = scale_for(x, n, LARGEST, scale);
        for (int d = 0; d < n; d += LANES)
            Scores::put_query(score_words(x + d, factor), d, n, query);
    }
    INLINE void put_key(const float* x, int n, uint8_t* panel, int lane, float* scale) {
        float factor = scale_for(x, n, LARGEST, scale);
        for (int d = 0; d < n; d += LANES) {
            int32_t words[LANES / 2];
            store(words, score_words(x + d, factor));
            for (int i = 0; i < LANES / 2; i++)
                store(panel + Scores::place(d, n, i) * 64 + lane * 4, words[i]);
        }
    }
    INLINE void put_value(const float* x, int n, uint8_t* panels, size_t stride, int key,
                          float* scale) {
        float factor = scale_for(x, n, 127.0f, scale);
        for (int d = 0; d < n; d += LANES) {
            i8x16 values = __builtin_convertvector(round_to_int(load(x + d) * factor), i8x16);
            uint8_t* to = panels + d / LANES * stride + key / 4 * 64 + key % 4;
            for (int i = 0; i < LANES; i++) to[i * 4] = (uint8_t)values[i];
        }
    }
    // Keys of four rows, `stride` floats apart, at positions 4 i to 4 i + 3. Writes whole words
    // instead of single bytes, which takes a fifth of the instructions.
    INLINE void put_keys(const float* x, size_t stride, int n, uint8_t* panel, int lane,
                         float* scale) {
        float factor[4];
        for (int row = 0; row < 4; row++)
            factor[row] = scale_for(x + row * stride, n, LARGEST, scale + row);
        for (int d = 0; d < n; d += LANES) {
            i32x16 pairs[2];  // of rows 0 and 1, 2 and 3; eight words each
            for (int half = 0; half < 2; half++) {
                const float* from = x + 2 * half * stride + d;
                i16x16 a = score_words(from, factor[2 * half]);
                i16x16 b = score_words(from + stride, factor[2 * half + 1]);
                pairs[half] = (i32x16)__builtin_shufflevector(
                    a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                    21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
            }
            i32x16 first = __builtin_shufflevector(pairs[0], pairs[1], 0, 8, 16, 24, 1, 9, 17, 25,
                                                   2, 10, 18, 26, 3, 11, 19, 27);
            i32x16 second = __builtin_shufflevector(pairs[0], pairs[1], 4, 12, 20, 28, 5, 13, 21,
                                                    29, 6, 14, 22, 30, 7, 15, 23, 31);
            int32_t words[32];
            store(words, first);
            store(words + LANES, second);
            for (int i = 0; i < 8; i++)
                __builtin_memcpy(panel + Scores::place(d, n, i) * 64 + lane * 4, words + 4 * i, 16);
        }
    }
    INLINE void put_values(const float* x, size_t stride, int n, uint8_t* panels,
                           size_t panel_stride, int key, float* scale) {
        float factor[4];
        for (int row = 0; row < 4; row++)
            factor[row] = scale_for(x + row * stride, n, 127.0f, scale + row);
        for (int d = 0; d < n; d += LANES) {
            u32x16 word = {};
            for (int row = 0; row < 4; row++) {
                u32x16 value = (u32x16)round_to_int(load(x + row * stride + d) * factor[row]);
                word |= (value & 255) << 8 * row;
            }
            store(panels + d / LANES * panel_stride + key / 4 * 64, word);
        }
    }
    // The factor that makes the largest |value| of a row `most`.
    INLINE float scale_for(const float* x, int n, float most, float* scale) {
        float bound = max_of(x, n);
        *scale = bound / most;
        return most / bound;
    }
    INLINE float max_of(const float* x, int n) {
        float largest = largest_in_row(x, n);
        return largest > TINY ? largest : TINY;
    }

    INLINE f32x16 score(i32x16 sum, float query_scale, const float* key_scale) {
        return to_float(sum) * load(key_scale) * query_scale;
    }
    // Turns the softmax weights e into inputs of the product with the values: e times each value's
    // scale, in 7 bits. Returns the scale of the product's sums.
    INLINE float put_weights(float* e, const float* value_scale, int first, int last,
                             uint8_t* bytes) {
        f32x16 largest = {};
        for (int k = first; k < last; k += LANES) {
            f32x16 weight = load(e + k) * load(value_scale + k);
            largest = max(weight, largest);
            store(e + k, weight);
        }
        float bound = max_lane(largest);
        bound = bound > TINY ? bound : TINY;
        float factor = 127.0f / bound;
        for (int k = first; k < last; k += LANES)
            store(bytes + k, __builtin_convertvector(round_to_int(load(e + k) * factor), i8x16));
        return bound / 127.0f;
    }
};

// fp32 arithmetic; weights are stored in 32 or 16 bits.
template <class Step>
struct Floats {
    typedef Step Weight;
    typedef FloatStep Score;
    typedef FloatStep Value;
    static constexpr int BYTES = 4;

    INLINE f32x16 table_row(const uint8_t* table, const float*, int id, int width, int k) {
        constexpr int BYTES = Step::PANEL_BYTES / LANES;
        return Step::panel(table + ((size_t)id * width + k) * BYTES);
    }
    INLINE void put_input(const float* x, int n, uint8_t* input, float*, float*) {
        __builtin_memcpy(input, x, n * sizeof(float));
    }
    INLINE void put_normed(const float* x, float factor, const float* weight, int n, uint8_t* input,
                           float*, float*) {
        for (int k = 0; k < n; k += LANES)
            store(input + k * 4, load(x + k) * factor * load(weight + k));
    }
    INLINE void put_rotated(const float* x, int n, uint8_t* input, float*) {
        __builtin_memcpy(input, x, n * sizeof(float));
    }
    INLINE f32x16 output(f32x16 sum, const float*, int, float) { return sum; }

    INLINE void put_query(const float* x, int n, uint8_t* query, float*) {
        __builtin_memcpy(query, x, n * sizeof(float));
    }
    INLINE void put_key(const float* x, int n, uint8_t* panel, int lane, float*) {
        for (int d = 0; d < n; d++) store(panel + d * 64 + lane * 4, x[d]);
    }
    INLINE void put_value(const float* x, int n, uint8_t* panels, size_t stride, int key, float*) {
        for (int d = 0; d < n; d += LANES)
            store(panels + d / LANES * stride + key * 64, load(x + d));
    }
    INLINE void put_keys(const float* x, size_t stride, int n, uint8_t* panel, int lane,
                         float* scale) {
        for (int row = 0; row < 4; row++) put_key(x + row * stride, n, panel, lane + row, scale);
    }
    INLINE void put_values(const float* x, size_t stride, int n, uint8_t* panels,
                           size_t panel_stride, int key, float* scale) {
        for (int row = 0; row < 4; row++)
            put_value(x + row * stride, n, panels, panel_stride, key + row, scale);
    }

    INLINE f32x16 score(f32x16 sum, float, const float*) { return sum; }
    INLINE float put_weights(const float* e, const float*, int first, int last, uint8_t* floats) {
        for (int k = first; k < last; k += LANES) store(floats + k * 4, load(e + k));
        return 1.0f;
    }
};
typedef Floats<HalfStep> Fp16;
typedef Floats<FloatStep> Fp32;

}  // namespace
