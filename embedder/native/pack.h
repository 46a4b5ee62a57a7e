// A pack: some concatenated texts, and the memory of their forward pass.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine.h"
#include "model.h"

// A pack has one thread's part of all tokens, within these bounds. Weights are read once per chunk:
// 256 tokens in chunks of 128 rows are 5 % faster than 128 tokens in chunks of 64.
constexpr int MIN_PACK_TOKENS = 128, MAX_PACK_TOKENS = 256;
// Rows that pass through a layer together: one thread's part of a pack, within these bounds.
constexpr int MIN_CHUNK_ROWS = 64, MAX_CHUNK_ROWS = 128;
constexpr int QUERY_ROWS = 48;  // rows of attention scores at a time

// The heads of a layer. `group` query heads share one of the `kv` key/value heads.
struct Heads {
    int count, kv, dim, group, attention, qkv;

    Heads(int count, int kv, int dim)
        : count(count),
          kv(kv),
          dim(dim),
          group(count / kv),
          attention(count * dim),
          qkv((count + 2 * kv) * dim) {}
};

// Sizes that follow from the configuration.
struct Shape {
    int width, ffn, up, per_layer, dense;
    Heads heads[2];  // of full and of sliding layers
    bool int8;

    // `up_parts` as in Forward.
    Shape(const native_config& c, int up_parts)
        : width(c.width),
          ffn(padded(c.ffn)),
          up(up_parts * padded(c.ffn)),
          per_layer(c.per_layer),
          dense(0),
          heads{{c.heads, c.kv_heads[0], c.head_dim[0]}, {c.heads, c.kv_heads[1], c.head_dim[1]}},
          int8(c.precision == NATIVE_INT8) {
        for (int i = 0; i < c.n_dense; i++)
            dense = c.dense_width[i] > dense ? c.dense_width[i] : dense;
    }

    // Of both kinds of layers.
    int attention() const { return larger(heads[0].attention, heads[1].attention); }
    int kv_heads() const { return larger(heads[0].kv, heads[1].kv); }
    int keys() const { return larger(heads[0].kv * heads[0].dim, heads[1].kv * heads[1].dim); }

    int widest() const {
        int qkv = larger(heads[0].qkv, heads[1].qkv);
        return larger(larger(larger(qkv, up), larger(attention(), dense)), 2 * per_layer);
    }
    int longest_input() const {
        return larger(larger(larger(attention(), ffn), larger(width, dense)), per_layer);
    }
    ALWAYS_INLINE int score_bytes() const { return int8 ? 2 : 4; }  // of a value of q or k
    ALWAYS_INLINE int value_bytes() const { return int8 ? 1 : 4; }  // of a value of v

 private:
    static int larger(int a, int b) { return a > b ? a : b; }
};

// Bytes behind every array of an arena, which AddressSanitizer, where it is built in, poisons.
#if defined(__has_feature) && __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
constexpr size_t GUARD_BYTES = 64;
#else
constexpr size_t GUARD_BYTES = 0;
#define ASAN_POISON_MEMORY_REGION(start, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes)
#endif

// Arrays from one allocation, each aligned to 64 bytes.
class Arena {
 public:
    ~Arena() { free(memory_); }

    // Provides `bytes`; keeps its allocation when that is large enough. False without memory.
    bool reserve(size_t bytes) {
        used_ = 0;
        ASAN_UNPOISON_MEMORY_REGION(memory_, size_);
        if (bytes <= size_) return true;
        free(memory_);
        size_ = (bytes + 4095) / 4096 * 4096;
        memory_ = static_cast<uint8_t*>(aligned_alloc(64, size_));
        if (!memory_) size_ = 0;
        return memory_;
    }
    template <class T>
    T* take(size_t count) {
        T* start = reinterpret_cast<T*>(memory_ + used_);
        used_ += padded_bytes<T>(count);
        ASAN_POISON_MEMORY_REGION(start + count,
                                  memory_ + used_ - reinterpret_cast<uint8_t*>(start + count));
        return start;
    }
    template <class T>
    static size_t padded_bytes(size_t count) {
        return (count * sizeof(T) + GUARD_BYTES + 63) / 64 * 64;
    }

 private:
    uint8_t* memory_ = nullptr;
    size_t size_ = 0, used_ = 0;
};

// Inputs of a product: int8 with a scale per row, or floats.
struct Activations {
    uint8_t* data;
    float* scale;
};

// What one thread needs to compute a chunk of a layer.
struct Scratch {
    float* narrow;           // (MAX_CHUNK_ROWS, width)
    float* wide;             // (MAX_CHUNK_ROWS, widest)
    float* row_values;       // (longest row,)
    Activations inputs;      // (MAX_CHUNK_ROWS, longest input)
    float* scores;           // (QUERY_ROWS, longest text)
    uint8_t* probabilities;  // (QUERY_ROWS, longest text), bytes or floats
    float* row_scale;        // (QUERY_ROWS,)

    bool reserve(const Shape& shape, int longest_text);

 private:
    Arena arena_;
};

// Keys and values of one layer, in the panels that attention multiplies by.
struct KeysValues {
    uint8_t *k, *v;
    float *k_scale, *v_scale;  // (kv_heads, slots)
};

struct Text {
    int index;   // in the call's group
    int first;   // row of the pack
    int length;  // tokens
    int slot;    // index of its first key, a multiple of 16
};

struct Pack {
    int rows, slots, n_texts;
    int32_t* token_ids;
    Text* texts;
    int* text_of_row;
    float* x;    // (rows, width), the residual stream
    uint8_t* q;  // of each chunk (kv_heads, rows, group, head_dim)
    float* q_scale;
    Activations embeddings;  // (rows, width), in families with embeddings per layer
    KeysValues layers[2];  // of this layer and of the next

    bool reserve(const Shape& shape, int rows, int n_texts);

 private:
    Arena arena_;
};
