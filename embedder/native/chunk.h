// A chunk: the rows of a pack that pass through a layer together.
#pragma once
#include "pool.h"
#include "precision.h"

namespace {

struct Chunk {
    const Shape& shape;
    Pack& pack;
    const Team& team;    // shares the chunk's work
    Scratch* scratches;  // by thread
    Scratch& scratch;    // of the thread that runs the chunk
    int first, rows;     // of the pack

    float* x(int row) const { return pack.x + (size_t)(first + row) * shape.width; }
    // Queries and their scales. A chunk has its own, since another may still be in the layer before,
    // with other heads.
    uint8_t* q() const {
        return pack.q + (size_t)first * shape.attention() * shape.score_bytes();
    }
    float* q_scale() const { return pack.q_scale + (size_t)first * shape.heads[0].count; }
    int position(int row) const {
        const Text& text = pack.texts[pack.text_of_row[first + row]];
        return first + row - text.first;
    }
    // Calls f(begin, end) for parts of the rows.
    template <class F>
    void row_parts(const F& f) const {
        team.share(rows, 4, [&](int begin, int end, int) { f(begin, end); });
    }
    // Calls f(row, values); `values` is scratch memory of the size of the longest row.
    template <class F>
    void each_row(const F& f) const {
        team.share(rows, 2, [&](int begin, int end, int thread) {
            for (int row = begin; row < end; row++) f(row, scratches[thread].row_values);
        });
    }
};

// Where the inputs of a product of `width` inputs are written for one row.
template <class P>
INLINE uint8_t* input(const Chunk& chunk, int row, int width) {
    return chunk.scratch.inputs.data + (size_t)row * width * P::BYTES;
}

// out (rows, linear.outputs) = inputs (rows, linear.inputs) times the matrix, plus the bias.
template <class P>
static void product(const Team& team, const Linear& linear, Activations inputs, int rows,
                    float* out) {
    Rows a = {inputs.data, (size_t)linear.inputs * P::BYTES, rows};
    Panels b = {linear.weight, (size_t)linear.inputs / P::Weight::DEPTH * P::Weight::PANEL_BYTES,
                linear.inputs / P::Weight::DEPTH, linear.sums};
    team.share(linear.panels(), BLOCK_PANELS, [&](int first, int last, int) {
        auto put = [&](int row, int panel, typename P::Weight::Sum sum) {
            f32x16 value = P::output(sum, linear.scale, panel, inputs.scale[row]);
            if (linear.bias) value += load(linear.bias + panel * LANES);
            store(out + (size_t)row * linear.outputs + panel * LANES, value);
        };
        multiply<typename P::Weight>(a, b, first, last, put);
    });
}

}  // namespace
