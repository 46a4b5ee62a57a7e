// The C interface of the engine. The rest of this directory implements it.
//
// An engine keeps pointers into the weights that its caller has mapped. They must stay valid and
// unchanged until native_close. Any thread may call; calls on one engine run one after the other.
// No function throws, and none ends the process.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NATIVE_API __attribute__((visibility("default")))

enum native_dtype { NATIVE_I8 = 0, NATIVE_I32 = 1, NATIVE_F16 = 2, NATIVE_F32 = 3 };
// Of families/.
enum native_family { NATIVE_GEMMA3 = 0, NATIVE_BERT = 1, NATIVE_EMBEDDING_GEMMA2 = 2 };
#define NATIVE_FAMILIES 3
enum native_precision { NATIVE_INT8 = 0, NATIVE_FP16 = 1, NATIVE_FP32 = 2 };
enum native_activation {
    NATIVE_IDENTITY = 0,
    NATIVE_TANH = 1,
    NATIVE_GELU = 2,
    NATIVE_GELU_TANH = 3,
    NATIVE_RELU = 4
};
enum native_pooling { NATIVE_MEAN = 0, NATIVE_CLS = 1 };

#define NATIVE_MAX_DENSE 4
#define NATIVE_MAX_LAYERS 64

// One tensor of the model file. `data` is aligned to 64 bytes.
struct native_tensor {
    const char* name;
    const void* data;
    uint64_t bytes;
    int32_t dtype;  // native_dtype
};

struct native_config {
    int32_t family;     // native_family
    int32_t precision;  // native_precision
    int32_t layers;
    int32_t width;  // of the residual stream; a multiple of 16
    int32_t ffn;    // width of the feed-forward layer; padded to a multiple of 16 in the file
    int32_t heads;
    int32_t per_layer;  // width of the embeddings per layer, a multiple of 16; 0 for none
    int32_t vocabulary;
    int32_t positions;    // the longest text, in tokens
    int32_t window;       // sliding layers: query i reads keys j with |i - j| < window
    int32_t kv_heads[2];  // of full and of sliding layers; divide heads
    int32_t head_dim[2];  // the same; multiples of 16, at most 512
    int32_t activation;   // native_activation, of the feed-forward layer
    int32_t pooling;      // native_pooling
    int32_t n_dense;      // projections after the pooling
    int32_t dense_width[NATIVE_MAX_DENSE];       // outputs of each; a multiple of 16
    int32_t dense_activation[NATIVE_MAX_DENSE];  // native_activation
    uint8_t sliding[NATIVE_MAX_LAYERS];          // 1: the layer has a sliding window
    float norm_epsilon;
};

typedef struct native_engine native_engine;

// Names of the kernels in this build that this CPU runs, best first, separated by spaces.
NATIVE_API const char* native_kernels(void);

// Opens a model. `kernel` is one of native_kernels, or NULL for the best. `threads` >= 1 includes
// the calling thread. Returns NULL, with one line in `error` (at most `error_size` bytes), when a
// tensor is missing or does not have the dtype and size that follow from the configuration.
NATIVE_API native_engine* native_open(const struct native_config* config,
                                      const struct native_tensor* tensors, int32_t n_tensors,
                                      const char* kernel, int32_t threads, char* error,
                                      int32_t error_size);

NATIVE_API const char* native_kernel(const native_engine* engine);

// Values in one vector: the width of the last dense layer, or of the model.
NATIVE_API int32_t native_dimensions(const native_engine* engine);

// Embeds concatenated texts: text i is token_ids[starts[i]] .. token_ids[starts[i + 1] - 1].
// Writes (n_texts, dimensions) float32, L2-normalised. Returns 0 on success. Otherwise writes one
// line to `error` and returns -1 for a bad text (an id outside the vocabulary, no tokens, or more
// than `positions`), -2 when there is no memory.
NATIVE_API int32_t native_embed(native_engine* engine, const int32_t* token_ids,
                                const int64_t* starts, int32_t n_texts, float* vectors, char* error,
                                int32_t error_size);

NATIVE_API void native_close(native_engine* engine);

#ifdef __cplusplus
}
#endif
