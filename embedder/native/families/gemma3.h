// EmbeddingGemma: Gemma 3's text model, reading in both directions.
//
//   x = embedding;  24 layers as in gemma.h;  norm(x)
//
// Five of six layers have a sliding window.
#pragma once
#include "gemma.h"

namespace {

template <class P>
struct Gemma3 : Gemma<P, false> {
    void begin(const Chunk& c) const {
        c.each_row([&](int row, float* values) {
            this->embed(c, row);
            float squares = sum_of_squares(c.x(row), c.shape.width);
            this->norm_to_input(c, row, squares, this->layers[0].attention_norm, values);
        });
        this->make_qkv(c, 0);
    }

    void layer(const Chunk& c, int i) const {
        this->attention_and_mlp(c, i);
        c.each_row([&](int row, float* values) {
            float squares =
                this->add(c, row, c.scratch.narrow, this->layers[i].mlp_out_norm, 1.0f);
            this->end_row(c, i, row, squares, values);
        });
        this->make_qkv(c, i + 1);
    }
};

}  // namespace
