// The engine: validates its input, groups texts into packs, and runs the packs on its threads.
#include "engine.h"

#include <stdio.h>
#include <string.h>

#include <new>

#include "cpu.h"
#include "float_mode.h"

namespace {

// Bounds of a group, the texts that are planned together. Large enough that the last packs are a
// small part of the work, small enough that the pooled rows take a few megabytes.
constexpr int GROUP_TOKENS = 64 * MIN_PACK_TOKENS, GROUP_TEXTS = 1024;

// Texts of a group by length, longest first, and the packs made of them.
struct Plan {
    int order[GROUP_TEXTS];
    int pack_first[GROUP_TEXTS + 1];  // index in `order` of each pack's first text
    int n_texts, n_packs, max_rows, max_texts;
};

// The arrays of one call, from the first text of a group on.
struct Texts {
    const int32_t* token_ids;
    const int64_t* starts;
    int count;

    int length(int text) const { return int(starts[text + 1] - starts[text]); }
};

}  // namespace

static const Forward& forward_of(const Kernel& kernel, const native_config& config) {
    return kernel.forwards[config.family][config.precision];
}

struct native_engine {
    native_config config;
    Shape shape;
    const Kernel* kernel;
    const Forward* forward;
    void* model;
    Pool pool;
    Scratch scratches[MAX_THREADS];
    Pack packs[MAX_THREADS];
    Arena pooled;
    Plan plan;
    pthread_mutex_t mutex;

    ALWAYS_INLINE native_engine(const native_config& c, const Kernel* k, int threads)
        : config(c),
          shape(c, forward_of(*k, c).up_parts),
          kernel(k),
          forward(&forward_of(*k, c)),
          pool(threads) {
        model = malloc(forward->model_bytes);
        pthread_mutex_init(&mutex, nullptr);
    }
    ALWAYS_INLINE ~native_engine() {
        pthread_mutex_destroy(&mutex);
        free(model);
    }
};

namespace {

bool in_range(int value, int least, int most) { return least <= value && value <= most; }

// The part of a configuration that is wrong, or null.
const char* config_problem(const native_config& c) {
    constexpr int MAX_POSITIONS = 1 << 20;
    if (!in_range(c.family, 0, NATIVE_FAMILIES - 1)) return "family";
    if (!in_range(c.precision, 0, 2)) return "precision";
    if (!in_range(c.layers, 1, NATIVE_MAX_LAYERS)) return "layers";
    if (!in_range(c.width, 16, 1 << 14) || c.width % 16) return "width";
    if (!in_range(c.ffn, 1, 1 << 16)) return "ffn";
    if (!in_range(c.heads, 1, 256)) return "heads";
    for (int kv_heads : c.kv_heads) {
        if (!in_range(kv_heads, 1, c.heads) || c.heads % kv_heads) return "kv_heads";
        if (c.heads / kv_heads > QUERY_ROWS) return "heads per key head";
    }
    for (int head_dim : c.head_dim)
        if (!in_range(head_dim, 16, 512) || head_dim % 16) return "head_dim";
    int least = c.family == NATIVE_EMBEDDING_GEMMA2 ? 16 : 0;
    if (!in_range(c.per_layer, least, 1 << 14) || c.per_layer % 16) return "per_layer";
    if (!in_range(c.vocabulary, 1, 1 << 24) || !in_range(c.positions, 1, MAX_POSITIONS))
        return "vocabulary or positions";
    if (!in_range(c.window, 0, MAX_POSITIONS)) return "window";
    if (!in_range(c.activation, 0, 4) || !in_range(c.pooling, 0, 1)) return "activation or pooling";
    if (!in_range(c.n_dense, 0, NATIVE_MAX_DENSE)) return "n_dense";
    for (int i = 0; i < c.n_dense; i++) {
        if (!in_range(c.dense_width[i], 16, 1 << 16) || c.dense_width[i] % 16) return "dense_width";
        if (!in_range(c.dense_activation[i], 0, 4)) return "dense_activation";
    }
    for (int i = 0; i < c.layers; i++)
        if (c.sliding[i] && c.window < 1) return "window";
    if (!(c.norm_epsilon >= 0 && c.norm_epsilon < 1)) return "norm_epsilon";
    return nullptr;
}

const Kernel* kernel_named(const char* name) {
    const Kernel* kernels[4];
    int count = kernels_of_this_cpu(kernels);
    if (!name || !*name) return kernels[0];
    for (int i = 0; i < count; i++)
        if (!strcmp(kernels[i]->name, name)) return kernels[i];
    return nullptr;
}

// Whether the model reads the texts of a call. If not, `error` says why.
bool texts_fit(const native_config& c, const int32_t* ids, const int64_t* starts, int n_texts,
               char* error, int size) {
    for (int text = 0; text < n_texts; text++) {
        int64_t length = starts[text + 1] - starts[text];
        if (length < 1) {
            snprintf(error, size, "text %d has no tokens", text);
            return false;
        }
        if (length > c.positions) {
            snprintf(error, size, "text %d has %lld tokens, the model reads %d", text,
                     (long long)length, c.positions);
            return false;
        }
        for (int64_t i = starts[text]; i < starts[text + 1]; i++) {
            if (ids[i] >= 0 && ids[i] < c.vocabulary) continue;
            snprintf(error, size, "text %d has token %d, the vocabulary has %d", text, ids[i],
                     c.vocabulary);
            return false;
        }
    }
    return true;
}

// Sorts texts by length, longest first; texts of one length keep their order. Shell sort, because
// it allocates no memory.
void sort_by_length(const Texts& texts, int* order) {
    auto before = [&](int a, int b) {
        int x = texts.length(a), y = texts.length(b);
        return x != y ? x > y : a < b;
    };
    for (int gap = texts.count / 2; gap > 0; gap /= 2)
        for (int i = gap; i < texts.count; i++) {
            int text = order[i], j = i;
            for (; j >= gap && before(text, order[j - gap]); j -= gap) order[j] = order[j - gap];
            order[j] = text;
        }
}

// Makes packs of the longest texts first, so that the last packs are small. Short texts share one.
void make_plan(const Texts& texts, int threads, Plan& plan) {
    plan.n_texts = texts.count;
    plan.n_packs = plan.max_rows = plan.max_texts = 0;
    for (int i = 0; i < texts.count; i++) plan.order[i] = i;
    sort_by_length(texts, plan.order);
    int part = int((texts.starts[texts.count] - texts.starts[0]) / threads);
    int most = part < MIN_PACK_TOKENS   ? MIN_PACK_TOKENS
               : part > MAX_PACK_TOKENS ? MAX_PACK_TOKENS
                                        : part;
    for (int i = 0; i < texts.count;) {
        plan.pack_first[plan.n_packs++] = i;
        int rows = 0, first = i;
        do rows += texts.length(plan.order[i++]);
        while (i < texts.count && rows + texts.length(plan.order[i]) <= most);
        if (rows > plan.max_rows) plan.max_rows = rows;
        if (i - first > plan.max_texts) plan.max_texts = i - first;
    }
    plan.pack_first[plan.n_packs] = texts.count;
}

// Concatenates the texts of the pack `number`.
void fill_pack(const Shape& shape, const Plan& plan, const Texts& texts, int number, Pack& pack) {
    pack.rows = pack.slots = pack.n_texts = 0;
    for (int i = plan.pack_first[number]; i < plan.pack_first[number + 1]; i++) {
        int index = plan.order[i], length = texts.length(index);
        memcpy(pack.token_ids + pack.rows, texts.token_ids + texts.starts[index],
               length * sizeof(int32_t));
        for (int row = 0; row < length; row++) pack.text_of_row[pack.rows + row] = pack.n_texts;
        pack.texts[pack.n_texts++] = {index, pack.rows, length, pack.slots};
        pack.rows += length;
        pack.slots += padded(length);
    }
    // Attention reads the padding behind a text's last key with weight 0, and 0 * NaN is NaN.
    for (KeysValues& layer : pack.layers)
        for (int head = 0; head < shape.kv_heads(); head++)
            for (int t = 0; t < pack.n_texts; t++) {
                const Text& text = pack.texts[t];
                float* scale = layer.v_scale + (size_t)head * pack.slots + text.slot;
                for (int key = text.length; key < padded(text.length); key++) scale[key] = 0;
            }
}

bool reserve(native_engine& engine, const Plan& plan) {
    int threads = engine.pool.threads(), leaders = plan.n_packs == 1 ? 1 : threads;
    for (int i = 0; i < threads; i++)
        if (!engine.scratches[i].reserve(engine.shape, plan.max_rows)) return false;
    for (int i = 0; i < leaders; i++)
        if (!engine.packs[i].reserve(engine.shape, plan.max_rows, plan.max_texts)) return false;
    return engine.pooled.reserve(
        Arena::padded_bytes<float>((size_t)plan.n_texts * engine.shape.width));
}

bool embed_group(native_engine& engine, const Texts& texts, float* vectors) {
    make_plan(texts, engine.pool.threads(), engine.plan);
    if (!reserve(engine, engine.plan)) return false;
    float* pooled = engine.pooled.take<float>((size_t)texts.count * engine.shape.width);
    auto run = [&](int number, int thread) {
        Pack& pack = engine.packs[thread];
        fill_pack(engine.shape, engine.plan, texts, number, pack);
        engine.forward->run(engine.model, engine.shape, pack, Team(engine.pool, thread, false),
                            engine.scratches, pooled);
    };
    if (engine.plan.n_packs == 1)
        run(0, 0);
    else
        engine.pool.each(engine.plan.n_packs, run);
    engine.forward->project(engine.model, engine.shape, Team(engine.pool, 0, false),
                            engine.scratches, pooled, texts.count, vectors);
    return true;
}

// The end of the group of texts that begins at `first`.
int group_end(const int64_t* starts, int first, int n_texts) {
    int last = first;
    do last++;
    while (last < n_texts && last - first < GROUP_TEXTS &&
           starts[last + 1] - starts[first] <= GROUP_TOKENS);
    return last;
}

}  // namespace

extern "C" {

const char* native_kernels(void) {
    static char names[96];
    const Kernel* kernels[4];
    int count = kernels_of_this_cpu(kernels), used = 0;
    for (int i = 0; i < count; i++)
        used += snprintf(names + used, sizeof names - used, i ? " %s" : "%s", kernels[i]->name);
    return names;
}

native_engine* native_open(const native_config* config, const native_tensor* tensors,
                           int32_t n_tensors, const char* kernel, int32_t threads, char* error,
                           int32_t error_size) {
    const Kernel* chosen = kernel_named(kernel);
    const char* problem = config_problem(*config);
    for (int head_dim : config->head_dim)
        if (!problem && chosen && head_dim % forward_of(*chosen, *config).head_dim_multiple)
            problem = "head_dim";
    if (problem) {
        snprintf(error, error_size, "the configuration's %s is out of range", problem);
        return nullptr;
    }
    if (!in_range(threads, 1, MAX_THREADS)) {
        snprintf(error, error_size, "%d threads, not 1 to %d", threads, MAX_THREADS);
        return nullptr;
    }
    if (!chosen) {
        snprintf(error, error_size, "no kernel %s here: %s", kernel, native_kernels());
        return nullptr;
    }
    void* memory = aligned_alloc(64, (sizeof(native_engine) + 63) / 64 * 64);
    if (!memory) {
        snprintf(error, error_size, "no memory");
        return nullptr;
    }
    native_engine* engine = new (memory) native_engine(*config, chosen, threads);
    Tensors found(tensors, n_tensors, engine->config, error, error_size);
    bool ok = engine->model && engine->pool.started();
    if (!ok)
        snprintf(error, error_size, "no memory, or no thread could be started");
    else
        engine->forward->load(engine->model, engine->config, engine->shape, found);
    if (ok && !found.failed()) return engine;
    native_close(engine);
    return nullptr;
}

const char* native_kernel(const native_engine* engine) { return engine->kernel->name; }

int32_t native_dimensions(const native_engine* engine) {
    const native_config& c = engine->config;
    return c.n_dense ? c.dense_width[c.n_dense - 1] : c.width;
}

int32_t native_embed(native_engine* engine, const int32_t* token_ids, const int64_t* starts,
                     int32_t n_texts, float* vectors, char* error, int32_t error_size) {
    if (!texts_fit(engine->config, token_ids, starts, n_texts, error, error_size)) return -1;
    pthread_mutex_lock(&engine->mutex);
    FloatMode mode;
    bool ok = true;
    for (int first = 0, last; ok && first < n_texts; first = last) {
        last = group_end(starts, first, n_texts);
        ok = embed_group(*engine, {token_ids, starts + first, last - first},
                         vectors + (size_t)first * native_dimensions(engine));
    }
    pthread_mutex_unlock(&engine->mutex);
    if (!ok) snprintf(error, error_size, "no memory for this many tokens");
    return ok ? 0 : -2;
}

void native_close(native_engine* engine) {
    engine->~native_engine();
    free(engine);
}

}  // extern "C"
