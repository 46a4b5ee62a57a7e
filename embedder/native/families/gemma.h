// What the families of Gemma share: attention and the feed-forward layer, both between two norms.
//
//   x += norm(attention(norm(x)));  x += norm(down(gelu(gate(norm(x))) * up(norm(x))))
//
// Queries and keys are normed per head and get the rotary embedding of their position (RoPE). Full
// and sliding layers may have different heads.
#pragma once
#include "../activations.h"
#include "../attention.h"

namespace {

// VALUES_NORMED: values are normed per head too, without a weight.
template <class P, bool VALUES_NORMED>
struct Gemma {
    static constexpr int HEAD_DIM_MULTIPLE = 32;  // RoPE pairs the two halves of a head
    static constexpr int UP_PARTS = 2;            // gate and up

    struct Layer {
        Linear qkv, o, gate_up, down;
        const float *attention_norm, *attention_out_norm, *mlp_norm, *mlp_out_norm, *q_norm,
            *k_norm;
        bool sliding;
    };
    struct Angles {
        const float *cos, *sin;  // (positions, head_dim / 2)
    };

    Layer layers[NATIVE_MAX_LAYERS];
    Angles angles[2];  // of full and of sliding layers
    const uint8_t* table;
    const float *table_scale, *norm;
    int n_layers, window;
    float epsilon;

    void load(const native_config& c, const Shape& s, Tensors& t) {
        n_layers = c.layers;
        window = c.window;
        epsilon = c.norm_epsilon;
        table = t.table("embedding", &table_scale);
        norm = t.floats("norm", 0, s.width);
        auto rope = [&](const char* cos, const char* sin, bool sliding) {
            size_t n_angles = (size_t)padded(c.positions) * s.heads[sliding].dim / 2;
            return Angles{t.floats(cos, 0, n_angles), t.floats(sin, 0, n_angles)};
        };
        angles[0] = rope("rope.full.cos", "rope.full.sin", false);
        angles[1] = rope("rope.sliding.cos", "rope.sliding.sin", true);
        for (int i = 0; i < n_layers; i++) {
            const Heads& h = s.heads[c.sliding[i] != 0];
            layers[i] = {t.linear("layers.%d.qkv", i, s.width, h.qkv, false),
                         t.linear("layers.%d.o", i, h.attention, s.width, false),
                         t.linear("layers.%d.gate_up", i, s.width, s.up, false),
                         t.linear("layers.%d.down", i, s.ffn, s.width, false),
                         t.floats("layers.%d.attention_norm", i, s.width),
                         t.floats("layers.%d.attention_out_norm", i, s.width),
                         t.floats("layers.%d.mlp_norm", i, s.width),
                         t.floats("layers.%d.mlp_out_norm", i, s.width),
                         t.floats("layers.%d.q_norm", i, h.dim),
                         t.floats("layers.%d.k_norm", i, h.dim),
                         c.sliding[i] != 0};
        }
    }

    // x = embedding.
    void embed(const Chunk& c, int row) const {
        int id = c.pack.token_ids[c.first + row];
        for (int k = 0; k < c.shape.width; k += LANES)
            store(c.x(row) + k, P::table_row(table, table_scale, id, c.shape.width, k));
    }

    // Layer i, except for the last norm and addition: `narrow` gets the outputs of `down`.
    void attention_and_mlp(const Chunk& c, int i) const {
        const Layer& l = layers[i];
        const Shape& s = c.shape;
        const Heads& h = s.heads[l.sliding];
        float* attended = c.scratch.wide;  // both are used one after the other
        float* wide = c.scratch.wide;
        float* narrow = c.scratch.narrow;
        attention<P>(c, h, c.pack.layers[i % 2], l.sliding ? window : 0, attended);
        c.each_row([&](int row, float*) {
            P::put_rotated(attended + (size_t)row * h.attention, h.attention,
                           input<P>(c, row, h.attention), c.scratch.inputs.scale + row);
        });
        product<P>(c.team, l.o, c.scratch.inputs, c.rows, narrow);
        c.each_row([&](int row, float* values) {
            float squares = add(c, row, narrow, l.attention_out_norm, 1.0f);
            norm_to_input(c, row, squares, l.mlp_norm, values);
        });
        product<P>(c.team, l.gate_up, c.scratch.inputs, c.rows, wide);
        c.each_row([&](int row, float* values) {
            float* gate_up = wide + (size_t)row * s.up;  // 16 columns of gate, 16 of up, and so on
            for (int k = 0; k < s.ffn; k += LANES)
                store(gate_up + k,
                      gelu_tanh(::load(gate_up + 2 * k)) * ::load(gate_up + 2 * k + LANES));
            P::put_input(gate_up, s.ffn, input<P>(c, row, s.ffn), c.scratch.inputs.scale + row,
                         values);
        });
        product<P>(c.team, l.down, c.scratch.inputs, c.rows, narrow);
    }

    // After the last addition of layer i: the inputs of the next layer, or the last norm, in place.
    void end_row(const Chunk& c, int i, int row, float squares, float* values) const {
        if (i + 1 < n_layers)
            return norm_to_input(c, row, squares, layers[i + 1].attention_norm, values);
        float* x = c.x(row);
        float factor = rms_factor(squares, c.shape.width, epsilon);
        for (int k = 0; k < c.shape.width; k += LANES)
            store(x + k, ::load(x + k) * factor * ::load(norm + k));
    }

    // x = (x + norm(y)) * scale; returns the sum of the squares of x.
    float add(const Chunk& c, int row, const float* rows, const float* weight, float scale) const {
        int width = c.shape.width;
        return add_normed(c.x(row), rows + (size_t)row * width, weight, scale, width, epsilon);
    }
    void norm_to_input(const Chunk& c, int row, float squares, const float* weight,
                       float* values) const {
        int width = c.shape.width;
        P::put_normed(c.x(row), rms_factor(squares, width, epsilon), weight, width,
                      input<P>(c, row, width), c.scratch.inputs.scale + row, values);
    }

    // Makes queries, keys and values of layer i, if there is one, from the chunk's inputs.
    void make_qkv(const Chunk& c, int i) const {
        if (i >= n_layers) return;
        const Layer& l = layers[i];
        const Heads& h = c.shape.heads[l.sliding];
        product<P>(c.team, l.qkv, c.scratch.inputs, c.rows, c.scratch.wide);
        c.row_parts([&](int begin, int end) {
            for (int row = begin; row < end; row++) norm_heads(c, l, h, row);
            put_rows<P>(c, h, c.pack.layers[i % 2], begin, end, c.scratch.wide);
        });
    }

 private:
    void norm_heads(const Chunk& c, const Layer& l, const Heads& h, int row) const {
        float* values = c.scratch.wide + (size_t)row * h.qkv;
        const Angles& rope = angles[l.sliding];
        size_t at = (size_t)c.position(row) * h.dim / 2;
        for (int head = 0; head < h.count + h.kv; head++)
            norm_and_rope(values + head * h.dim, head < h.count ? l.q_norm : l.k_norm,
                          rope.cos + at, rope.sin + at, h.dim);
        if constexpr (VALUES_NORMED)
            for (int head = h.count + h.kv; head < h.count + 2 * h.kv; head++)
                norm_values(values + head * h.dim, h.dim);
    }
    // Norms a head's query or key, then rotates the pair of values d and d + n / 2 by the
    // position's angle d.
    void norm_and_rope(float* x, const float* weight, const float* cos, const float* sin,
                       int n) const {
        float factor = rms_factor(sum_of_squares(x, n), n, epsilon);
        for (int d = 0; d < n / 2; d += LANES) {
            f32x16 a = ::load(x + d) * factor * ::load(weight + d);
            f32x16 b = ::load(x + n / 2 + d) * factor * ::load(weight + n / 2 + d);
            f32x16 c = ::load(cos + d), s = ::load(sin + d);
            store(x + d, fma(a, c, -(b * s)));
            store(x + n / 2 + d, fma(b, c, a * s));
        }
    }
    void norm_values(float* x, int n) const {
        float factor = rms_factor(sum_of_squares(x, n), n, epsilon);
        for (int d = 0; d < n; d += LANES) store(x + d, ::load(x + d) * factor);
    }
};

}  // namespace
