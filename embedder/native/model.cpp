#include "model.h"

#include <stdio.h>
#include <string.h>

namespace {

constexpr int NAME_SIZE = 96;

constexpr native_dtype WEIGHT_TYPES[] = {NATIVE_I8, NATIVE_F16, NATIVE_F32};
constexpr int WEIGHT_BYTES[] = {1, 2, 4};

}  // namespace

const void* Tensors::find(const char* name, native_dtype dtype, uint64_t bytes) {
    if (failed_) return nullptr;
    const char* problem = "is missing";
    for (int i = 0; i < count_; i++) {
        if (strcmp(tensors_[i].name, name)) continue;
        if (tensors_[i].dtype != dtype)
            problem = "has another type than its model's precision";
        else if (tensors_[i].bytes != bytes)
            problem = "has another size than its model's configuration";
        else if ((uintptr_t)tensors_[i].data % 64)
            problem = "is not aligned to 64 bytes";
        else
            return tensors_[i].data;
        break;
    }
    failed_ = true;
    snprintf(error_, error_size_, "tensor %s %s", name, problem);
    return nullptr;
}

bool Tensors::has(const char* name, int number) const {
    char full[NAME_SIZE];
    snprintf(full, sizeof full, name, number);
    for (int i = 0; i < count_; i++)
        if (!strcmp(tensors_[i].name, full)) return true;
    return false;
}

const float* Tensors::floats(const char* name, int number, size_t count) {
    char full[NAME_SIZE];
    snprintf(full, sizeof full, name, number);
    return static_cast<const float*>(find(full, NATIVE_F32, count * sizeof(float)));
}

Linear Tensors::linear(const char* name, int number, int inputs, int outputs, bool bias) {
    char base[NAME_SIZE], full[NAME_SIZE + 8];
    snprintf(base, sizeof base, name, number);
    auto part = [&](const char* suffix, native_dtype dtype, uint64_t bytes) {
        snprintf(full, sizeof full, "%s.%s", base, suffix);
        return find(full, dtype, bytes);
    };
    Linear linear = {padded(inputs), padded(outputs), nullptr, nullptr, nullptr, nullptr};
    uint64_t values = (uint64_t)linear.inputs * linear.outputs, row = linear.outputs * 4;
    int precision = config_.precision;
    linear.weight =
        (const uint8_t*)part("weight", WEIGHT_TYPES[precision], values * WEIGHT_BYTES[precision]);
    if (precision == NATIVE_INT8) {
        linear.scale = (const float*)part("scale", NATIVE_F32, row);
        linear.sums = (const int32_t*)part("sum", NATIVE_I32, row);
    }
    if (bias) linear.bias = (const float*)part("bias", NATIVE_F32, row);
    return linear;
}

const uint8_t* Tensors::table(const char* name, const float** scale) {
    char full[NAME_SIZE];
    int precision = config_.precision;
    uint64_t values = (uint64_t)config_.vocabulary * config_.width;
    snprintf(full, sizeof full, "%s.weight", name);
    const void* weight = find(full, WEIGHT_TYPES[precision], values * WEIGHT_BYTES[precision]);
    snprintf(full, sizeof full, "%s.scale", name);
    *scale = nullptr;
    if (precision == NATIVE_INT8)
        *scale = (const float*)find(full, NATIVE_F32, (uint64_t)padded(config_.vocabulary) * 4);
    return (const uint8_t*)weight;
}
