// The engine on random models: equal bits in any batch, on any kernel and any number of threads;
// errors for bad input.
//
//     engine_test FIRST_SEED LAST_SEED [KERNEL]
#include <pthread.h>

#include "random_model.h"

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort(); \
        }                                                                            \
    } while (0)

namespace {

constexpr int ERROR_SIZE = 256;

struct Texts {
    std::vector<int32_t> ids;
    std::vector<int64_t> starts = {0};

    int count() const { return int(starts.size()) - 1; }
    void add(Random& random, const native_config& c, int length) {
        for (int i = 0; i < length; i++) ids.push_back(random.below(c.vocabulary));
        starts.push_back(ids.size());
    }
    Texts only(int text) const {
        return {{ids.begin() + starts[text], ids.begin() + starts[text + 1]},
                {0, starts[text + 1] - starts[text]}};
    }
    Texts reversed() const {
        Texts all;
        for (int text = count(); text--;) {
            all.ids.insert(all.ids.end(), ids.begin() + starts[text],
                           ids.begin() + starts[text + 1]);
            all.starts.push_back(all.ids.size());
        }
        return all;
    }
};

// Short and long texts, including the shortest and the longest.
Texts random_texts(Random& random, const native_config& c) {
    Texts texts;
    texts.add(random, c, 1);
    texts.add(random, c, c.positions);
    for (int more = random.between(0, 10); more--;) {
        int most = random.below(4) ? 1 + c.positions / 10 : c.positions;
        texts.add(random, c, random.between(1, most));
    }
    return texts;
}

class Engine {
 public:
    Engine(const native_config& c, const RandomModel& model, const char* kernel, int threads) {
        char error[ERROR_SIZE] = "";
        engine_ = native_open(&c, model.tensors.data(), int(model.tensors.size()), kernel, threads,
                              error, ERROR_SIZE);
        if (!engine_) fprintf(stderr, "%s\n", error), abort();
    }
    Engine(const Engine&) = delete;
    ~Engine() { native_close(engine_); }

    size_t dimensions() const { return native_dimensions(engine_); }
    std::vector<float> embed(const Texts& texts) const {
        std::vector<float> vectors(texts.count() * dimensions());
        char error[ERROR_SIZE] = "";
        CHECK(!native_embed(engine_, texts.ids.data(), texts.starts.data(), texts.count(),
                            vectors.data(), error, ERROR_SIZE));
        return vectors;
    }
    // Checks that texts are refused, with a reason that fits into a buffer of any size.
    void refuses(const Texts& texts) const {
        std::vector<float> vectors(texts.count() * dimensions());
        for (int size : {1, 16, ERROR_SIZE}) {
            std::vector<char> error(size, 'x');
            CHECK(native_embed(engine_, texts.ids.data(), texts.starts.data(), texts.count(),
                               vectors.data(), error.data(), size) == -1);
            CHECK(memchr(error.data(), 0, size) && (size == 1 || error[0]));
        }
    }

 private:
    native_engine* engine_;
};

// The kernels to test: `asked`, or all.
std::vector<std::string> kernel_names(const char* asked) {
    std::vector<std::string> names = {""};
    for (const char* at = asked ? asked : native_kernels(); *at; at++) {
        if (*at == ' ')
            names.emplace_back();
        else
            names.back() += *at;
    }
    return names;
}

bool equal(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && !memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

void check_length(const std::vector<float>& vectors, size_t dimensions) {
    for (size_t first = 0; first < vectors.size(); first += dimensions) {
        float squares = 0;
        for (size_t i = 0; i < dimensions; i++) squares += vectors[first + i] * vectors[first + i];
        CHECK(squares == 0 || fabsf(squares - 1) < 1e-4f);  // 0: ReLU has removed everything
    }
}

void check_bits(const native_config& c, const RandomModel& model, const Texts& texts,
                const std::vector<std::string>& kernels) {
    std::vector<float> alone, backwards;
    Engine reference(c, model, kernels[0].c_str(), 1);
    size_t n = reference.dimensions();
    for (int text = 0; text < texts.count(); text++) {
        std::vector<float> vector = reference.embed(texts.only(text));
        alone.insert(alone.end(), vector.begin(), vector.end());
        backwards.insert(backwards.begin(), vector.begin(), vector.end());
    }
    check_length(alone, n);
    // Every number of threads on the best kernel, and one on the others.
    for (const std::string& kernel : kernels)
        for (int threads : {2, 1, 4}) {
            if (threads != 2 && kernel != kernels[0]) break;
            Engine engine(c, model, kernel.c_str(), threads);
            CHECK(equal(engine.embed(texts), alone));
            CHECK(equal(engine.embed(texts.reversed()), backwards));
            int text = threads % texts.count();
            CHECK(equal(engine.embed(texts.only(text)),
                        {alone.begin() + text * n, alone.begin() + (text + 1) * n}));
        }
}

struct Call {
    const Engine* engine;
    const Texts* texts;
    std::vector<float> expected;
};

void check_calls_at_once(const native_config& c, const RandomModel& model, const Texts& texts,
                         const std::string& kernel) {
    Engine engine(c, model, kernel.c_str(), 2);
    Texts backwards = texts.reversed();
    Call calls[] = {{&engine, &texts, engine.embed(texts)},
                    {&engine, &backwards, engine.embed(backwards)}};
    auto run = [](void* argument) -> void* {
        const Call* call = static_cast<Call*>(argument);
        for (int i = 0; i < 5; i++) CHECK(equal(call->engine->embed(*call->texts), call->expected));
        return nullptr;
    };
    pthread_t other;
    CHECK(!pthread_create(&other, nullptr, run, &calls[1]));
    run(&calls[0]);
    pthread_join(other, nullptr);
}

void check_bad_texts(const native_config& c, const RandomModel& model, Random& random) {
    Engine engine(c, model, nullptr, 2);
    Texts good;
    good.add(random, c, c.positions);
    std::vector<float> expected = engine.embed(good);
    for (int bad = 0; bad < 5; bad++) {
        Texts texts = good;
        if (bad == 0) texts.add(random, c, 0);
        if (bad == 1) texts.add(random, c, c.positions + 1);
        if (bad == 2) texts.ids.back() = -1;
        if (bad == 3) texts.ids.back() = c.vocabulary;
        if (bad == 4) texts.starts = {0, 1, 0};
        engine.refuses(texts);
        CHECK(equal(engine.embed(good), expected));
    }
    CHECK(engine.embed({}).empty());
}

// Whether a model is refused, with a reason that fits into the buffer. A model that opens must also
// run.
bool refused(const native_config& c, const std::vector<native_tensor>& tensors, const char* kernel,
             int threads) {
    bool failed = false;
    for (int size : {1, 16, ERROR_SIZE}) {
        std::vector<char> error(size, 'x');
        native_engine* engine = native_open(&c, tensors.data(), int(tensors.size()), kernel,
                                            threads, error.data(), size);
        failed = !engine;
        if (failed) {
            CHECK(memchr(error.data(), 0, size) && (size == 1 || error[0]));
            continue;
        }
        int32_t id = 0;
        int64_t starts[] = {0, 1};
        std::vector<float> vector(native_dimensions(engine));
        native_embed(engine, &id, starts, 1, vector.data(), error.data(), size);
        native_close(engine);
    }
    return failed;
}

void check_bad_tensors(const native_config& c, const RandomModel& model) {
    CHECK(!refused(c, model.tensors, nullptr, 1));
    CHECK(refused(c, {}, nullptr, 1));
    for (size_t i = 0; i < model.tensors.size(); i++) {
        bool optional =
            strstr(model.tensors[i].name, "dense.") && strstr(model.tensors[i].name, ".bias");
        for (int bad = 0; bad < 6; bad++) {
            std::vector<native_tensor> tensors = model.tensors;
            native_tensor& one = tensors[i];
            if (bad == 0) one.name = "layers.0.other";
            if (bad == 1) one.bytes -= 1;
            if (bad == 2) one.bytes += 64;
            if (bad == 3) one.dtype = (one.dtype + 1) % 4;
            if (bad == 4) one.dtype = -1;
            if (bad == 5) one.data = static_cast<const char*>(one.data) + 4;
            CHECK(refused(c, tensors, nullptr, 1) == !(optional && bad == 0));
        }
    }
}

void check_bad_configurations(const native_config& c, const RandomModel& model) {
    for (size_t field = 0; field < offsetof(native_config, sliding) / sizeof(int32_t); field++)
        for (int32_t value : {-1, 0, 1, 7, 48, 4096, INT32_MIN, INT32_MAX}) {
            native_config changed = c;
            reinterpret_cast<int32_t*>(&changed)[field] = value;
            refused(changed, model.tensors, nullptr, 2);
        }
    for (float epsilon : {-1.0f, 1.0f, NAN, INFINITY}) {
        native_config changed = c;
        changed.norm_epsilon = epsilon;
        CHECK(refused(changed, model.tensors, nullptr, 1));
    }
    for (int threads : {INT32_MIN, -1, 0, 65, INT32_MAX})
        CHECK(refused(c, model.tensors, nullptr, threads));
    CHECK(refused(c, model.tensors, "sve2", 1));
    CHECK(!refused(c, model.tensors, "", 64));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    std::vector<std::string> kernels = kernel_names(argv[3]);
    for (int seed = atoi(argv[1]); seed <= atoi(argv[2]); seed++) {
        Random random(seed);
        int family = seed % NATIVE_FAMILIES, precision = seed / NATIVE_FAMILIES % 3;
        native_config c = random_config(random, family, precision, 9);
        RandomModel model(c, random);
        Texts texts = random_texts(random, c);
        check_bits(c, model, texts, kernels);
        check_calls_at_once(c, model, texts, kernels[0]);
        check_bad_texts(c, model, random);
        // One model of every family and precision.
        if (seed < 3 * NATIVE_FAMILIES) check_bad_tensors(c, model), check_bad_configurations(c, model);
    }
}
