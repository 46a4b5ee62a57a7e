// EmbeddingGemma 2: Gemma 4's text model, reading in both directions.
//
//   x = embedding
//   per layer: as in gemma.h, with values normed, and
//     e = norm(project(embedding));  x = (x + norm(out(gelu(gate(x)) * e))) * scalar
//   norm(x)
//
// e is the layer's own embedding of the token. Computed for all layers at once, it would take 49 KB
// per token.
#pragma once
#include "gemma.h"

namespace {

template <class P>
struct EmbeddingGemma2 : Gemma<P, true> {
    typedef Gemma<P, true> Base;

    // Inputs are multiplied by factors before they are rounded, and the weights divided by them.
    struct PerLayer {
        Linear project, gate, out;
        const float *norm, *gate_factors, *out_norm;
    };

    PerLayer per_layer[NATIVE_MAX_LAYERS];
    const float *project_factors, *scalars;  // scalars (layers,)

    void load(const native_config& c, const Shape& s, Tensors& t) {
        Base::load(c, s, t);
        project_factors = t.floats("per_layer.project_factors", 0, s.width);
        scalars = t.floats("layer_scalars", 0, padded(c.layers));
        for (int i = 0; i < c.layers; i++)
            per_layer[i] = {
                t.linear("layers.%d.per_layer.project", i, s.width, s.per_layer, false),
                t.linear("layers.%d.per_layer.gate", i, s.width, s.per_layer, false),
                t.linear("layers.%d.per_layer.out", i, s.per_layer, s.width, false),
                t.floats("layers.%d.per_layer.norm", i, s.per_layer),
                t.floats("layers.%d.per_layer.gate_factors", i, s.width),
                t.floats("layers.%d.per_layer.out_norm", i, s.width)};
    }

    void begin(const Chunk& c) const {
        int width = c.shape.width;
        Activations embedded = embeddings(c);
        c.each_row([&](int row, float* values) {
            this->embed(c, row);
            P::put_normed(c.x(row), 1.0f, project_factors, width,
                          embedded.data + (size_t)row * width * P::BYTES, embedded.scale + row,
                          values);
            float squares = sum_of_squares(c.x(row), width);
            this->norm_to_input(c, row, squares, this->layers[0].attention_norm, values);
        });
        this->make_qkv(c, 0);
    }

    void layer(const Chunk& c, int i) const {
        this->attention_and_mlp(c, i);
        const PerLayer& l = per_layer[i];
        const Shape& s = c.shape;
        float* narrow = c.scratch.narrow;
        float* gate = c.scratch.wide;
        float* embedding = c.scratch.wide + (size_t)MAX_CHUNK_ROWS * s.per_layer;
        c.each_row([&](int row, float* values) {
            this->add(c, row, narrow, this->layers[i].mlp_out_norm, 1.0f);
            P::put_normed(c.x(row), 1.0f, l.gate_factors, s.width, input<P>(c, row, s.width),
                          c.scratch.inputs.scale + row, values);
        });
        product<P>(c.team, l.gate, c.scratch.inputs, c.rows, gate);
        product<P>(c.team, l.project, embeddings(c), c.rows, embedding);
        c.each_row([&](int row, float* values) {
            size_t at = (size_t)row * s.per_layer;
            gate_row(l, gate + at, embedding + at, s.per_layer);
            P::put_input(gate + at, s.per_layer, input<P>(c, row, s.per_layer),
                         c.scratch.inputs.scale + row, values);
        });
        product<P>(c.team, l.out, c.scratch.inputs, c.rows, narrow);
        c.each_row([&](int row, float* values) {
            float squares = this->add(c, row, narrow, l.out_norm, scalars[i]);
            this->end_row(c, i, row, squares, values);
        });
        this->make_qkv(c, i + 1);
    }

 private:
    // The chunk's token embeddings, the inputs of every layer's `project`.
    static Activations embeddings(const Chunk& c) {
        const Activations& all = c.pack.embeddings;
        return {all.data + (size_t)c.first * c.shape.width * P::BYTES, all.scale + c.first};
    }
    // gate = gelu(gate) * norm(embedding)
    void gate_row(const PerLayer& l, float* gate, const float* embedding, int n) const {
        float factor = rms_factor(sum_of_squares(embedding, n), n, this->epsilon);
        for (int k = 0; k < n; k += LANES)
            store(gate + k,
                  gelu_tanh(::load(gate + k)) *
                      (::load(embedding + k) * factor * ::load(l.norm + k)));
    }
};

}  // namespace
