// From the hidden states of a text to its vector: pooling, projections, L2 normalisation.
#pragma once
#include "activations.h"
#include "chunk.h"

namespace {

// Mean of a text's rows, or its first row: out (width,).
INLINE void pool_rows(const float* rows, int length, int width, int pooling, float* out) {
    int count = pooling == NATIVE_CLS ? 1 : length;
    for (int k = 0; k < width; k += LANES) {
        f32x16 total = {};
        for (int row = 0; row < count; row++) total += load(rows + (size_t)row * width + k);
        store(out + k, total / (float)count);
    }
}

INLINE void normalise(const float* x, int n, float* out) {
    float length = square_root(sum_of_squares(x, n));
    float factor = 1.0f / (length > 1e-12f ? length : 1e-12f);
    for (int k = 0; k < n; k += LANES) store(out + k, load(x + k) * factor);
}

template <class P>
struct Head {
    Linear dense[NATIVE_MAX_DENSE];
    int activation[NATIVE_MAX_DENSE];
    int n_dense;

    void load(const native_config& c, const Shape& s, Tensors& t) {
        n_dense = c.n_dense;
        int width = s.width;
        for (int i = 0; i < n_dense; i++) {
            bool bias = t.has("dense.%d.bias", i);
            dense[i] = t.linear("dense.%d", i, width, c.dense_width[i], bias);
            activation[i] = c.dense_activation[i];
            width = c.dense_width[i];
        }
    }

    // From pooled (n_texts, width) to vectors (n_texts, dimensions), MAX_CHUNK_ROWS at a time.
    void project(const Team& team, Scratch* scratches, const float* pooled, int width, int n_texts,
                 float* vectors) const {
        int size = n_dense ? dense[n_dense - 1].outputs : width;
        for (int first = 0; first < n_texts; first += MAX_CHUNK_ROWS) {
            int rows = n_texts - first < MAX_CHUNK_ROWS ? n_texts - first : MAX_CHUNK_ROWS;
            const float* x = pooled + (size_t)first * width;
            for (int i = 0; i < n_dense; i++) x = layer(team, scratches, i, x, rows);
            team.share(rows, 4, [&](int begin, int end, int) {
                for (int row = begin; row < end; row++)
                    normalise(x + (size_t)row * size, size, vectors + (size_t)(first + row) * size);
            });
        }
    }

 private:
    const float* layer(const Team& team, Scratch* scratches, int i, const float* x,
                       int rows) const {
        Scratch& own = scratches[team.thread()];
        int n = dense[i].inputs, size = dense[i].outputs;
        team.share(rows, 2, [&](int begin, int end, int thread) {
            for (int row = begin; row < end; row++)
                P::put_input(x + (size_t)row * n, n, own.inputs.data + (size_t)row * n * P::BYTES,
                             own.inputs.scale + row, scratches[thread].row_values);
        });
        product<P>(team, dense[i], own.inputs, rows, own.wide);
        if (activation[i] != NATIVE_IDENTITY)
            for (int k = 0; k < rows * size; k += LANES)
                store(own.wide + k, activate(activation[i], ::load(own.wide + k)));
        return own.wide;
    }
};

}  // namespace
