// The tensors of a model file, looked up by name and checked against the configuration.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "inline.h"

// A matrix in panels of 16 columns, padded with zeros to multiples of 16 on both sides.
struct Linear {
    int inputs, outputs;
    const uint8_t* weight;
    const float* scale;   // (outputs,), of int8 weights
    const int32_t* sums;  // (outputs,), of int8 weights
    const float* bias;    // (outputs,), or null

    ALWAYS_INLINE int panels() const { return outputs / 16; }
};

static constexpr int padded(int n) { return (n + 15) / 16 * 16; }

// Looks up tensors. After the first failure every look-up returns null, and `error` says what
// failed.
class Tensors {
 public:
    Tensors(const native_tensor* tensors, int count, const native_config& config, char* error,
            int error_size)
        : tensors_(tensors),
          count_(count),
          config_(config),
          error_(error),
          error_size_(error_size) {}

    bool failed() const { return failed_; }
    bool has(const char* name, int number) const;

    // `name` is a format for one number, such as a layer's.
    const float* floats(const char* name, int number, size_t count);
    Linear linear(const char* name, int number, int inputs, int outputs, bool bias);
    // (vocabulary, width) in the model's precision.
    const uint8_t* table(const char* name, const float** scale);

 private:
    const void* find(const char* name, native_dtype dtype, uint64_t bytes);

    const native_tensor* tensors_;
    int count_;
    const native_config& config_;
    char* error_;
    int error_size_;
    bool failed_ = false;
};
