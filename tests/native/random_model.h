// A model of random weights with the tensors that its configuration needs.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "engine.h"

// xorshift64*: the same numbers on every machine.
class Random {
 public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}

    uint64_t next() {
        state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
        return state_ * 0x2545f4914f6cdd1d;
    }
    int below(int n) { return int((next() >> 33) % n); }
    int between(int least, int most) { return least + below(most - least + 1); }
    float unit() { return float(next() >> 40) / (1 << 23) - 1; }  // -1 <= x < 1

 private:
    uint64_t state_;
};

inline int up16(int n) { return (n + 15) / 16 * 16; }

// A random configuration that the engine supports; widths up to 16 * most.
inline native_config random_config(Random& random, int family, int precision, int most) {
    native_config c = {};
    c.family = family, c.precision = precision;
    c.layers = random.between(1, 3);
    c.width = 16 * random.between(1, most);
    c.ffn = random.between(1, 16 * most);
    bool gemma = family != NATIVE_BERT, kinds = family == NATIVE_EMBEDDING_GEMMA2;
    c.kv_heads[0] = random.between(1, 3);
    c.kv_heads[1] = c.kv_heads[0] * (kinds ? random.between(1, 2) : 1);
    c.heads = c.kv_heads[1] * random.between(1, 4);
    c.head_dim[0] = (gemma ? 32 : 16) * random.between(1, (most + 2) / 3);
    c.head_dim[1] = kinds ? 32 * random.between(1, (most + 2) / 3) : c.head_dim[0];
    c.per_layer = kinds ? 16 * random.between(1, most) : 0;
    c.vocabulary = random.between(2, 300);
    c.positions = random.between(1, 32 * most);
    c.window = random.between(1, 100);
    c.activation = random.between(NATIVE_IDENTITY, NATIVE_RELU);
    c.pooling = random.below(2);
    c.n_dense = random.below(3);
    for (int i = 0; i < c.n_dense; i++) {
        c.dense_width[i] = 16 * random.between(1, most);
        c.dense_activation[i] = random.between(NATIVE_IDENTITY, NATIVE_RELU);
    }
    for (int i = 0; i < c.layers; i++) c.sliding[i] = gemma && random.below(2);
    c.norm_epsilon = 1e-6f;
    return c;
}

// Every tensor has an allocation of exactly its size, so that AddressSanitizer detects a read
// behind it.
class RandomModel {
 public:
    RandomModel(const native_config& config, Random& random) : c(config), random_(random) {
        table();
        c.family == NATIVE_BERT ? bert() : gemma();
        for (int i = 0, width = c.width; i < c.n_dense; width = c.dense_width[i++])
            linear("dense." + std::to_string(i), width, c.dense_width[i], random_.below(2));
        for (size_t i = 0; i < tensors.size(); i++) tensors[i].name = names_[i].c_str();
    }
    RandomModel(const RandomModel&) = delete;
    ~RandomModel() {
        for (void* one : memory_) free(one);
    }

    std::vector<native_tensor> tensors;

 private:
    void table() {
        weights("embedding.weight", (size_t)c.vocabulary * c.width, 1.0f);
        if (c.precision == NATIVE_INT8)
            floats("embedding.scale", up16(c.vocabulary), 1 / 64.0f, 1 / 256.0f);
    }
    void gemma() {
        for (int sliding : {0, 1}) {
            std::string kind = sliding ? "rope.sliding" : "rope.full";
            size_t n_angles = (size_t)up16(c.positions) * c.head_dim[sliding] / 2;
            floats(kind + ".cos", n_angles, 0, 1);
            floats(kind + ".sin", n_angles, 0, 1);
        }
        if (c.family == NATIVE_EMBEDDING_GEMMA2) per_layer();
        floats("norm", c.width, 1, 0.5f);
        for (int i = 0; i < c.layers; i++) {
            std::string layer = "layers." + std::to_string(i);
            int kind = c.sliding[i], dim = c.head_dim[kind];
            linear(layer + ".qkv", c.width, (c.heads + 2 * c.kv_heads[kind]) * dim, false);
            linear(layer + ".o", c.heads * dim, c.width, false);
            linear(layer + ".gate_up", c.width, 2 * up16(c.ffn), false);
            linear(layer + ".down", c.ffn, c.width, false);
            for (const char* norm :
                 {".attention_norm", ".attention_out_norm", ".mlp_norm", ".mlp_out_norm"})
                floats(layer + norm, c.width, 1, 0.5f);
            for (const char* norm : {".q_norm", ".k_norm"})
                floats(layer + norm, dim, 1, 0.5f);
        }
    }
    void per_layer() {
        floats("per_layer.project_factors", c.width, 1, 0.5f);
        floats("layer_scalars", up16(c.layers), 1, 0.5f);
        for (int i = 0; i < c.layers; i++) {
            std::string layer = "layers." + std::to_string(i) + ".per_layer.";
            linear(layer + "project", c.width, c.per_layer, false);
            linear(layer + "gate", c.width, c.per_layer, false);
            linear(layer + "out", c.per_layer, c.width, false);
            floats(layer + "norm", c.per_layer, 1, 0.5f);
            for (const char* one : {"gate_factors", "out_norm"})
                floats(layer + one, c.width, 1, 0.5f);
        }
    }
    void bert() {
        floats("positions", (size_t)up16(c.positions) * c.width, 0, 1);
        norm("embedding_norm");
        for (int i = 0; i < c.layers; i++) {
            std::string layer = "layers." + std::to_string(i);
            linear(layer + ".qkv", c.width, (c.heads + 2 * c.kv_heads[0]) * c.head_dim[0], true);
            linear(layer + ".o", c.heads * c.head_dim[0], c.width, true);
            linear(layer + ".up", c.width, c.ffn, true);
            linear(layer + ".down", c.ffn, c.width, true);
            norm(layer + ".attention_norm");
            norm(layer + ".mlp_norm");
        }
    }
    void norm(const std::string& name) {
        floats(name + ".weight", c.width, 1, 0.5f);
        floats(name + ".bias", c.width, 0, 0.5f);
    }
    void linear(const std::string& name, int inputs, int outputs, bool bias) {
        int rows = up16(inputs), columns = up16(outputs);
        float size = 1 / sqrtf(float(rows));
        weights(name + ".weight", (size_t)rows * columns, size);
        if (c.precision == NATIVE_INT8) {
            const int8_t* weight = static_cast<const int8_t*>(memory_.back());
            floats(name + ".scale", columns, size / 64, size / 256);
            sums(name + ".sum", weight, rows, columns);
        }
        if (bias) floats(name + ".bias", columns, 0, 0.1f);
    }

    // The sum of each column, over panels of (rows / 4, 16, 4).
    void sums(const std::string& name, const int8_t* weight, int rows, int columns) {
        int32_t* sum = static_cast<int32_t*>(add(name, NATIVE_I32, columns * sizeof(int32_t)));
        memset(sum, 0, columns * sizeof(int32_t));
        for (size_t i = 0; i < (size_t)rows * columns; i++)
            sum[i / (16 * rows) * 16 + i / 4 % 16] += weight[i];
    }
    void weights(const std::string& name, size_t count, float size) {
        if (c.precision == NATIVE_FP32) return floats(name, count, 0, size);
        if (c.precision == NATIVE_FP16) {
            _Float16* values =
                static_cast<_Float16*>(add(name, NATIVE_F16, count * sizeof(_Float16)));
            for (size_t i = 0; i < count; i++) values[i] = (_Float16)(random_.unit() * size);
            return;
        }
        int8_t* values = static_cast<int8_t*>(add(name, NATIVE_I8, count));
        for (size_t i = 0; i < count; i++) values[i] = int8_t(random_.between(-127, 127));
    }
    void floats(const std::string& name, size_t count, float middle, float size) {
        float* values = static_cast<float*>(add(name, NATIVE_F32, count * sizeof(float)));
        for (size_t i = 0; i < count; i++) values[i] = middle + random_.unit() * size;
    }
    void* add(const std::string& name, native_dtype dtype, size_t bytes) {
        void* memory = nullptr;
        if (posix_memalign(&memory, 64, bytes)) abort();
        memory_.push_back(memory);
        names_.push_back(name);
        tensors.push_back({nullptr, memory, bytes, dtype});
        return memory;
    }

    const native_config c;
    Random& random_;
    std::vector<void*> memory_;
    std::vector<std::string> names_;
};
