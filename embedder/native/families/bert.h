// BERT and its relatives with absolute positions: RoBERTa, XLM-RoBERTa, CamemBERT.
//
//   x = norm(embedding + position)
//   per layer: x = norm(x + attention(x));  x = norm(x + down(gelu(up(x))))
#pragma once
#include "../activations.h"
#include "../attention.h"

namespace {

template <class P>
struct Bert {
    static constexpr int HEAD_DIM_MULTIPLE = 16;
    static constexpr int UP_PARTS = 1;

    struct Norm {
        const float *weight, *bias;
    };
    struct Layer {
        Linear qkv, o, up, down;
        Norm attention_norm, mlp_norm;
    };

    Layer layers[NATIVE_MAX_LAYERS];
    const uint8_t* table;
    const float *table_scale, *positions;  // positions (positions, width)
    Norm embedding_norm;
    int n_layers, activation;
    float epsilon;

    void load(const native_config& c, const Shape& s, Tensors& t) {
        n_layers = c.layers;
        activation = c.activation;
        epsilon = c.norm_epsilon;
        auto norm = [&](const char* weight, const char* bias, int i) {
            return Norm{t.floats(weight, i, s.width), t.floats(bias, i, s.width)};
        };
        table = t.table("embedding", &table_scale);
        positions = t.floats("positions", 0, (size_t)padded(c.positions) * s.width);
        embedding_norm = norm("embedding_norm.weight", "embedding_norm.bias", 0);
        const Heads& h = s.heads[0];
        for (int i = 0; i < n_layers; i++)
            layers[i] = {
                t.linear("layers.%d.qkv", i, s.width, h.qkv, true),
                t.linear("layers.%d.o", i, h.attention, s.width, true),
                t.linear("layers.%d.up", i, s.width, s.up, true),
                t.linear("layers.%d.down", i, s.ffn, s.width, true),
                norm("layers.%d.attention_norm.weight", "layers.%d.attention_norm.bias", i),
                norm("layers.%d.mlp_norm.weight", "layers.%d.mlp_norm.bias", i)};
    }

    void begin(const Chunk& c) const {
        int width = c.shape.width;
        c.each_row([&](int row, float* values) {
            int id = c.pack.token_ids[c.first + row];
            const float* position = positions + (size_t)c.position(row) * width;
            for (int k = 0; k < width; k += LANES)
                store(c.x(row) + k,
                      P::table_row(table, table_scale, id, width, k) + ::load(position + k));
            normed_to_input(c, row, embedding_norm, values);
        });
        make_qkv(c, 0);
    }

    void layer(const Chunk& c, int i) const {
        const Layer& l = layers[i];
        const Shape& s = c.shape;
        const Heads& h = s.heads[0];
        float* attended = c.scratch.wide;  // both are used one after the other
        float* wide = c.scratch.wide;
        float* narrow = c.scratch.narrow;
        attention<P>(c, h, c.pack.layers[i % 2], 0, attended);
        c.each_row([&](int row, float*) {
            P::put_rotated(attended + (size_t)row * h.attention, h.attention,
                           input<P>(c, row, h.attention), c.scratch.inputs.scale + row);
        });
        product<P>(c.team, l.o, c.scratch.inputs, c.rows, narrow);
        c.each_row([&](int row, float* values) {
            add_row(c, row, narrow);
            normed_to_input(c, row, l.attention_norm, values);
        });
        product<P>(c.team, l.up, c.scratch.inputs, c.rows, wide);
        c.each_row([&](int row, float* values) {
            float* inner = wide + (size_t)row * s.up;
            for (int k = 0; k < s.ffn; k += LANES)
                store(inner + k, activate(activation, ::load(inner + k)));
            put_input(c, row, inner, s.ffn, values);
        });
        product<P>(c.team, l.down, c.scratch.inputs, c.rows, narrow);
        c.each_row([&](int row, float* values) {
            add_row(c, row, narrow);
            normed_to_input(c, row, l.mlp_norm, values);
        });
        if (i + 1 < n_layers) make_qkv(c, i + 1);
    }

 private:
    void add_row(const Chunk& c, int row, const float* rows) const {
        const float* y = rows + (size_t)row * c.shape.width;
        for (int k = 0; k < c.shape.width; k += LANES)
            store(c.x(row) + k, ::load(c.x(row) + k) + ::load(y + k));
    }
    void normed_to_input(const Chunk& c, int row, Norm norm, float* values) const {
        layer_norm(c.x(row), norm.weight, norm.bias, c.shape.width, epsilon);
        put_input(c, row, c.x(row), c.shape.width, values);
    }
    void put_input(const Chunk& c, int row, const float* from, int n, float* values) const {
        P::put_input(from, n, input<P>(c, row, n), c.scratch.inputs.scale + row, values);
    }
    void make_qkv(const Chunk& c, int i) const {
        product<P>(c.team, layers[i].qkv, c.scratch.inputs, c.rows, c.scratch.wide);
        c.row_parts([&](int begin, int end) {
            put_rows<P>(c, c.shape.heads[0], c.pack.layers[i % 2], begin, end, c.scratch.wide);
        });
    }
};

}  // namespace
