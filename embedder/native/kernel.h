// What the engine needs of a kernel. forward.cpp is compiled once for each, with its instruction
// set.
#pragma once
#include "model.h"
#include "pack.h"
#include "pool.h"

// A model's forward pass in one family and one precision.
struct Forward {
    size_t model_bytes;
    void (*load)(void* model, const native_config& config, const Shape& shape, Tensors& tensors);
    // Hidden states of a pack's texts, pooled: row text.index of `pooled` (n_texts, width).
    void (*run)(const void* model, const Shape& shape, Pack& pack, const Team& team,
                Scratch* scratches, float* pooled);
    // pooled (n_texts, width) to vectors (n_texts, dimensions).
    void (*project)(const void* model, const Shape& shape, const Team& team, Scratch* scratches,
                    const float* pooled, int n_texts, float* vectors);
};

struct Kernel {
    const char* name;
    Forward forwards[2][3];  // by native_family and native_precision
};

extern const Kernel kernel_portable;
#if defined(__x86_64__)
extern const Kernel kernel_avx512vnni, kernel_avxvnni, kernel_avx2;
#elif defined(__aarch64__)
extern const Kernel kernel_dotprod, kernel_i8mm;
#endif
