// The forward pass of every family for one kernel. KERNEL is its name, and KERNEL_HEADER the
// header with its instructions.
//
// A pack passes through a layer chunk by chunk. Chunks depend on each other only through keys and
// values, so threads synchronise once per layer. In a pack of one chunk, threads share the columns
// of each product instead.
#include KERNEL_HEADER
#include "families/bert.h"
#include "families/embedding_gemma2.h"
#include "families/gemma3.h"
#include "head.h"
#include "kernel.h"

namespace {

// Rows per chunk: one thread's part of the pack, within bounds. All chunks of a pack have about the
// same size, since a small chunk reads as many weights as a large one.
int chunk_rows(int rows, int threads) {
    int part = (rows + threads - 1) / threads;
    int most = part;
    if (part < MIN_CHUNK_ROWS) most = MIN_CHUNK_ROWS;
    if (part > MAX_CHUNK_ROWS) most = MAX_CHUNK_ROWS;
    int chunks = (rows + most - 1) / most;
    int even = (rows + chunks - 1) / chunks;
    return (even + 7) / 8 * 8;
}

template <class Family, class P>
struct Model {
    Family family;
    Head<P> head;
    int pooling;

    static void load(void* memory, const native_config& config, const Shape& shape,
                     Tensors& tensors) {
        Model* model = static_cast<Model*>(memory);
        model->pooling = config.pooling;
        model->family.load(config, shape, tensors);
        model->head.load(config, shape, tensors);
    }

    static void run(const void* memory, const Shape& shape, Pack& pack, const Team& team,
                    Scratch* scratches, float* pooled) {
        const Model& m = *static_cast<const Model*>(memory);
        each_chunk(shape, pack, team, scratches,
                   [&](const Chunk& chunk) { m.family.begin(chunk); });
        for (int i = 0; i < m.family.n_layers; i++)
            each_chunk(shape, pack, team, scratches,
                       [&](const Chunk& chunk) { m.family.layer(chunk, i); });
        for (int t = 0; t < pack.n_texts; t++) {
            const Text& text = pack.texts[t];
            pool_rows(pack.x + (size_t)text.first * shape.width, text.length, shape.width,
                      m.pooling, pooled + (size_t)text.index * shape.width);
        }
    }

    static void project(const void* memory, const Shape& shape, const Team& team,
                        Scratch* scratches, const float* pooled, int n_texts, float* vectors) {
        const Model& m = *static_cast<const Model*>(memory);
        m.head.project(team, scratches, pooled, shape.width, n_texts, vectors);
    }

    template <class F>
    static void each_chunk(const Shape& shape, Pack& pack, const Team& team, Scratch* scratches,
                           const F& f) {
        int most = chunk_rows(pack.rows, team.size());
        if (pack.rows <= most)
            return f(Chunk{shape, pack, team, scratches, scratches[team.thread()], 0, pack.rows});
        team.share(pack.rows, most, [&](int first, int last, int thread) {
            Team alone = team.leader(thread);
            f(Chunk{shape, pack, alone, scratches, scratches[thread], first, last - first});
        });
    }
};

template <template <class> class Family, class P>
constexpr Forward forward() {
    typedef Model<Family<P>, P> M;
    return {sizeof(M), Family<P>::HEAD_DIM_MULTIPLE, Family<P>::UP_PARTS, M::load, M::run,
            M::project};
}

}  // namespace

#define NAME_OF(kernel) #kernel
#define QUOTE(kernel) NAME_OF(kernel)
#define JOIN(a, b) a##b
#define TABLE(kernel) JOIN(kernel_, kernel)

extern const Kernel TABLE(KERNEL) = {
    QUOTE(KERNEL),
    {{forward<Gemma3, Int8>(), forward<Gemma3, Fp16>(), forward<Gemma3, Fp32>()},
     {forward<Bert, Int8>(), forward<Bert, Fp16>(), forward<Bert, Fp32>()},
     {forward<EmbeddingGemma2, Int8>(), forward<EmbeddingGemma2, Fp16>(),
      forward<EmbeddingGemma2, Fp32>()}},
};
