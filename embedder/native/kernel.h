// A kernel: the forward passes compiled for one instruction set. forward.cpp is compiled once for
// each.
#pragma once
#include "model.h"
#include "pack.h"
#include "pool.h"

// The forward pass of one family in one precision.
struct Forward {
    size_t model_bytes;
    int head_dim_multiple;  // each head_dim has to be a multiple of it
    int up_parts;           // widths of the feed-forward layer that the product before it makes
    void (*load)(void* model, const native_config& config, const Shape& shape, Tensors& tensors);
    // The pooled hidden states of a pack's texts: row text.index of `pooled` (n_texts, width).
    void (*run)(const void* model, const Shape& shape, Pack& pack, const Team& team,
                Scratch* scratches, float* pooled);
    // From pooled (n_texts, width) to vectors (n_texts, dimensions).
    void (*project)(const void* model, const Shape& shape, const Team& team, Scratch* scratches,
                    const float* pooled, int n_texts, float* vectors);
};

struct Kernel {
    const char* name;
    Forward forwards[NATIVE_FAMILIES][3];  // by native_family and native_precision
};

extern const Kernel kernel_portable;
#if defined(__x86_64__)
extern const Kernel kernel_avx512vnni, kernel_avxvnni, kernel_avx2;
#elif defined(__aarch64__)
extern const Kernel kernel_dotprod, kernel_i8mm;
#endif
