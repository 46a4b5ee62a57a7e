// The engine as a program without Python, for emulators.
//
//   arm_program           prints the names of the kernels of this CPU
//   arm_program CASE...   writes the vectors of each case, kernel by kernel, to standard output
//
// A case names a model file and kernels, and has the arguments of the engine.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

// The head of a case, as dev/arm_program.py writes it. It is followed by `tensors` Tensor,
// `texts` + 1 starts (int64) and the token ids (int32).
struct Header {
    char model[256];
    char kernels[64];  // separated by spaces
    native_config config;
    int32_t threads, tensors, texts, unused;  // a Tensor is aligned to 8 bytes
};
struct Tensor {
    char name[128];
    uint64_t offset, bytes;
    int32_t dtype, unused;
};

[[noreturn]] static void fail(const char* what, const char* why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static const char* map(const char* path) {
    int file = open(path, O_RDONLY);
    struct stat status;
    if (file < 0 || fstat(file, &status)) fail(path, "cannot be opened");
    void* data = mmap(nullptr, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) fail(path, "cannot be mapped");
    close(file);
    return static_cast<const char*>(data);
}

static void embed(const Header& header, const native_tensor* tensors, const char* kernel) {
    const Tensor* listed = reinterpret_cast<const Tensor*>(&header + 1);
    const int64_t* starts = reinterpret_cast<const int64_t*>(listed + header.tensors);
    const int32_t* ids = reinterpret_cast<const int32_t*>(starts + header.texts + 1);
    char error[256];
    native_engine* engine = native_open(&header.config, tensors, header.tensors, kernel,
                                        header.threads, error, sizeof error);
    if (!engine) fail(header.model, error);
    size_t count = (size_t)header.texts * native_dimensions(engine);
    float* vectors = static_cast<float*>(malloc(count * sizeof(float)));
    if (native_embed(engine, ids, starts, header.texts, vectors, error, sizeof error))
        fail(header.model, error);
    fwrite(vectors, sizeof(float), count, stdout);
    free(vectors);
    native_close(engine);
}

static void run(const char* path) {
    const Header& header = *reinterpret_cast<const Header*>(map(path));
    const Tensor* listed = reinterpret_cast<const Tensor*>(&header + 1);
    const char* model = map(header.model);
    void* memory = calloc(header.tensors, sizeof(native_tensor));
    native_tensor* tensors = static_cast<native_tensor*>(memory);
    for (int i = 0; i < header.tensors; i++)
        tensors[i] = {listed[i].name, model + listed[i].offset, listed[i].bytes, listed[i].dtype};
    char names[sizeof header.kernels];
    memcpy(names, header.kernels, sizeof names);
    for (char* name = strtok(names, " "); name; name = strtok(nullptr, " "))
        embed(header, tensors, name);
    free(tensors);
}

int main(int count, char** paths) {
    if (count == 1) puts(native_kernels());
    for (int i = 1; i < count; i++) run(paths[i]);
}
