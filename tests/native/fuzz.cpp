// libFuzzer: with a configuration, tensors and texts made from arbitrary bytes, the engine never
// reads or writes outside of its memory.
#include "random_model.h"

namespace {

class Bytes {
 public:
    Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}

    uint8_t byte() { return size_ ? size_--, *data_++ : 0; }
    int below(int n) { return byte() % n; }
    int32_t word() {
        uint32_t value = 0;
        for (int i = 0; i < 4; i++) value = value << 8 | byte();
        return int32_t(value);
    }
    // Fills memory with the remaining bytes, repeated.
    void fill(void* memory, size_t bytes) const {
        for (size_t i = 0; size_ && i < bytes; i++)
            static_cast<uint8_t*>(memory)[i] = data_[i % size_];
    }

 private:
    const uint8_t* data_;
    size_t size_;
};

native_config configuration(Bytes& bytes) {
    Random random(bytes.word());
    int family = bytes.below(NATIVE_FAMILIES);
    native_config c = random_config(random, family, bytes.below(3), 3);
    c.norm_epsilon = bytes.below(2) ? 0 : c.norm_epsilon;
    return c;
}

// Changes the contents of tensors, then their descriptions. Never claims more bytes than there are,
// because the engine cannot check that.
void damage(Bytes& bytes, std::vector<native_tensor>& tensors) {
    auto any = [&]() -> native_tensor& { return tensors[bytes.below(int(tensors.size()))]; };
    for (int count = bytes.below(4); count--;) {
        native_tensor& one = any();
        bytes.fill(const_cast<void*>(one.data), one.bytes);
    }
    for (int count = bytes.below(3); count--;) {
        native_tensor& one = any();
        switch (bytes.below(4)) {
            case 0:
                one = any();
                break;
            case 1:
                one.bytes = (uint32_t)bytes.word() % (one.bytes + 1);
                break;
            case 2:
                one.dtype = bytes.word();
                break;
            default:
                one.data = static_cast<const char*>(one.data) + 4;  // not aligned
        }
    }
}

void embed(Bytes& bytes, native_engine* engine, const native_config& c) {
    std::vector<int32_t> ids;
    std::vector<int64_t> starts = {0};
    for (int texts = bytes.below(8); texts--;) {
        int length = bytes.below(8) ? bytes.byte() % 80 : bytes.byte() * 2;
        for (int i = 0; i < length; i++)
            ids.push_back(bytes.byte() % 250 ? i % c.vocabulary : bytes.word());
        starts.push_back(ids.size());
    }
    char error[40];
    std::vector<float> vectors((starts.size() - 1) * native_dimensions(engine));
    native_embed(engine, ids.data(), starts.data(), int(starts.size()) - 1, vectors.data(), error,
                 sizeof error);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Bytes bytes(data, size);
    native_config c = configuration(bytes);
    Random random(1);
    RandomModel model(c, random);
    damage(bytes, model.tensors);
    if (bytes.below(4) == 0)
        reinterpret_cast<int32_t*>(&c)[bytes.below(sizeof c / sizeof(int32_t))] = bytes.word();
    std::string names = native_kernels(), kernel;
    if (bytes.below(2)) kernel = names.substr(names.rfind(' ') + 1);
    char error[40];
    native_engine* engine = native_open(&c, model.tensors.data(), int(model.tensors.size()),
                                        kernel.c_str(), 1 + bytes.below(3), error, sizeof error);
    if (!engine) return 0;
    embed(bytes, engine, c);
    embed(bytes, engine, c);
    native_close(engine);
    return 0;
}
