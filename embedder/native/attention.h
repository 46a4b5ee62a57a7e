// Attention: every query of a chunk over the keys of its own text.
//
// Keys are written to panels once per layer, when they are computed. Query heads that share a key
// head are additional rows. A row of scores is complete before its softmax, and a key's index is
// its position in the text, so no sum depends on the chunks or on the other texts of the pack.
#pragma once
#include "chunk.h"

namespace {

constexpr float MASKED = -__builtin_inff();

// Some queries of one text and one key head.
struct Queries {
    const Text& text;
    int head;         // key head
    int first, last;  // positions in the text
    int lo, hi;       // all keys that they read; lo is a multiple of 16
    int window;       // |query - key| < window, 0 for no limit
};

// The keys and values of one head of a text. Panels of values are `v_stride` bytes apart.
struct HeadPanels {
    uint8_t *k, *v;
    size_t v_stride;
    float *k_scale, *v_scale;
};
INLINE HeadPanels head_panels(const Chunk& c, const Heads& h, const KeysValues& layer,
                              const Text& text, int head) {
    const Shape& shape = c.shape;
    size_t slot = (size_t)head * c.pack.slots + text.slot;
    return {layer.k + slot * h.dim * shape.score_bytes(),
            layer.v + slot * h.dim * shape.value_bytes(),
            (size_t)padded(text.length) * LANES * shape.value_bytes(), layer.k_scale + slot,
            layer.v_scale + slot};
}

// Writes the query heads of a row of (count + 2 kv) x dim for the next attention.
template <class P>
INLINE void put_query_heads(const Chunk& c, const Heads& h, int row, const float* values) {
    for (int head = 0; head < h.count; head++) {
        size_t at = ((size_t)(head / h.group) * c.rows + row) * h.group + head % h.group;
        P::put_query(values + head * h.dim, h.dim, c.q() + at * h.dim * c.shape.score_bytes(),
                     c.q_scale() + at);
    }
}

// Writes the keys and values of one row, or of four rows from `row` on.
template <class P, bool FOUR>
INLINE void put_key_heads(const Chunk& c, const Heads& h, KeysValues& layer, int row,
                          const float* values) {
    const Text& text = c.pack.texts[c.pack.text_of_row[c.first + row]];
    int key = c.first + row - text.first;
    for (int head = 0; head < h.kv; head++) {
        HeadPanels to = head_panels(c, h, layer, text, head);
        const float *k = values + (h.count + head) * h.dim, *v = k + h.kv * h.dim;
        uint8_t* panel = to.k + (size_t)(key / LANES) * LANES * h.dim * c.shape.score_bytes();
        if constexpr (FOUR) {
            P::put_keys(k, h.qkv, h.dim, panel, key % LANES, to.k_scale + key);
            P::put_values(v, h.qkv, h.dim, to.v, to.v_stride, key, to.v_scale + key);
        } else {
            P::put_key(k, h.dim, panel, key % LANES, to.k_scale + key);
            P::put_value(v, h.dim, to.v, to.v_stride, key, to.v_scale + key);
        }
    }
}

// Writes queries, keys and values of the rows begin <= row < end of qkv (rows, qkv) for the next
// attention.
template <class P>
INLINE void put_rows(const Chunk& c, const Heads& h, KeysValues& layer, int begin, int end,
                     const float* qkv) {
    for (int row = begin; row < end;) {
        const float* values = qkv + (size_t)row * h.qkv;
        int four =
            row + 3 < end && c.position(row) % 4 == 0 && c.position(row + 3) == c.position(row) + 3
                ? 4
                : 1;
        for (int i = 0; i < four; i++) put_query_heads<P>(c, h, row + i, values + i * h.qkv);
        if (four == 4)
            put_key_heads<P, true>(c, h, layer, row, values);
        else
            put_key_heads<P, false>(c, h, layer, row, values);
        row += four;
    }
}

// Softmax of one row of scores in place, then `weights`, the inputs of the product with the values.
// Returns the factor of that product's sums.
template <class P>
INLINE float softmax_row(float* scores, int first, int last, int width, const float* v_scale,
                         uint8_t* weights) {
    int begin = first / LANES * LANES, end = padded(last);
    for (int k = begin; k < first; k++) scores[k] = MASKED;
    for (int k = last; k < end; k++) scores[k] = MASKED;
    f32x16 largest = splat(MASKED), total = {};
    for (int k = begin; k < end; k += LANES) largest = max(load(scores + k), largest);
    float top = max_lane(largest);
    for (int k = begin; k < end; k += LANES) {
        f32x16 e = exp(load(scores + k) - top);
        total += e;
        store(scores + k, e);
    }
    __builtin_memset(weights, 0, begin * P::BYTES);
    __builtin_memset(weights + end * P::BYTES, 0, (width - end) * P::BYTES);
    return P::put_weights(scores, v_scale, begin, end, weights) / sum(total);
}

template <class P>
static void attend(const Chunk& c, const Heads& h, const KeysValues& layer, const Queries& q,
                   Scratch& own, float* out) {
    HeadPanels keys = head_panels(c, h, layer, q.text, q.head);
    int rows = (q.last - q.first) * h.group, width = padded(q.hi) - q.lo;
    size_t at = ((size_t)q.head * c.rows + q.text.first + q.first - c.first) * h.group;
    size_t query_bytes = h.dim * c.shape.score_bytes();

    const float *q_scale = c.q_scale() + at, *k_scale = keys.k_scale + q.lo;
    auto put_score = [&](int row, int panel, typename P::Score::Sum sum) {
        store(own.scores + row * width + panel * LANES,
              P::score(sum, q_scale[row], k_scale + panel * LANES));
    };
    Panels k = {keys.k + q.lo * query_bytes, LANES * query_bytes, h.dim / P::Score::DEPTH,
                nullptr};
    multiply<typename P::Score>({c.q() + at * query_bytes, query_bytes, rows}, k, 0,
                                width / LANES, put_score);

    for (int row = 0; row < rows; row++) {
        int query = q.first + row / h.group, first = q.lo, last = q.text.length;
        if (q.window) {
            first = query - q.window + 1 > first ? query - q.window + 1 : first;
            last = query + q.window < last ? query + q.window : last;
        }
        own.row_scale[row] =
            softmax_row<P>(own.scores + row * width, first - q.lo, last - q.lo, width,
                           keys.v_scale + q.lo, own.probabilities + row * width * P::BYTES);
    }

    auto put_value = [&](int row, int panel, typename P::Value::Sum sum) {
        int column = (q.head * h.group + row % h.group) * h.dim + panel * LANES;
        f32x16 value = __builtin_convertvector(sum, f32x16) * own.row_scale[row];
        store(out + (size_t)(row / h.group) * h.attention + column, value);
    };
    Panels v = {keys.v + (size_t)q.lo * LANES * c.shape.value_bytes(), keys.v_stride,
                (q.hi - q.lo + P::Value::DEPTH - 1) / P::Value::DEPTH, nullptr};
    multiply<typename P::Value>({own.probabilities, (size_t)width * P::BYTES, rows}, v, 0,
                                h.dim / LANES, put_value);
}

// Attention of a chunk: out (rows, count x dim). `window` as in Queries.
template <class P>
static void attention(const Chunk& c, const Heads& h, const KeysValues& layer, int window,
                      float* out) {
    int tokens = QUERY_ROWS / h.group, blocks = 0, end = c.first + c.rows;
    int first_text = c.pack.text_of_row[c.first], last_text = c.pack.text_of_row[end - 1];
    auto rows_in = [&](const Text& text, int* first, int* last) {
        *first = text.first > c.first ? text.first : c.first;
        *last = text.first + text.length < end ? text.first + text.length : end;
    };
    auto blocks_of = [&](int first, int last) { return (last - first + tokens - 1) / tokens; };
    for (int t = first_text; t <= last_text; t++) {
        int first, last;
        rows_in(c.pack.texts[t], &first, &last);
        blocks += blocks_of(first, last);
    }
    c.team.share(blocks * h.kv, 1, [&](int begin, int stop, int thread) {
        for (int item = begin; item < stop; item++) {
            int block = item / h.kv, head = item % h.kv;
            int t = first_text, first, last;
            rows_in(c.pack.texts[t], &first, &last);
            while (block >= blocks_of(first, last)) {
                block -= blocks_of(first, last);
                t++;
                rows_in(c.pack.texts[t], &first, &last);
            }
            const Text& text = c.pack.texts[t];
            int from = first + block * tokens, to = from + tokens < last ? from + tokens : last;
            Queries q = {text, head, from - text.first, to - text.first, 0, text.length, window};
            if (window) {
                q.lo = q.first - window + 1 > 0 ? (q.first - window + 1) / LANES * LANES : 0;
                q.hi = q.last - 1 + window < text.length ? q.last - 1 + window : text.length;
            }
            attend<P>(c, h, layer, q, c.scratches[thread],
                      out + (size_t)(from - c.first) * h.attention);
        }
    });
}

}  // namespace
