// Measures the peak of the machine: int8 dot products in registers, and reading memory.
//
//     peak THREADS -> one line of JSON
//
// A product and its addition count as two operations.
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace {

constexpr int kMaxThreads = 256;
constexpr int kTries = 5;  // the best counts, since others may have been interrupted
constexpr int64_t kRounds = 4 << 20;            // per try: about 6 ms
constexpr int64_t kBytes = int64_t{512} << 20;  // read per try; far larger than any cache

volatile int32_t sink;  // results are stored here, so that the compiler keeps the computation

// Each kernel has ACCUMULATORS independent chains. An instruction waits 4 to 5 cycles for the
// previous one of its chain, and CPUs issue two per cycle, so at least 10 chains are needed.
#define ACCUMULATORS 12

#if defined(__x86_64__)

__attribute__((target("avx512f,avx512vnni"))) int32_t avx512_vnni(int64_t rounds, int32_t seed) {
    __m512i sums[ACCUMULATORS];
    const __m512i left = _mm512_set1_epi32(seed), right = _mm512_set1_epi32(seed + 1);
    for (int i = 0; i < ACCUMULATORS; i++) sums[i] = _mm512_set1_epi32(i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < ACCUMULATORS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], left, right);
    for (int i = 1; i < ACCUMULATORS; i++) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
    return _mm512_reduce_add_epi32(sums[0]);
}

__attribute__((target("avx2"))) int32_t sum_of(const __m256i* sums) {
    __m256i total = sums[0];
    for (int i = 1; i < ACCUMULATORS; i++) total = _mm256_add_epi32(total, sums[i]);
    return _mm256_extract_epi32(total, 0) + _mm256_extract_epi32(total, 7);
}

__attribute__((target("avx2,avxvnni"))) int32_t avx_vnni(int64_t rounds, int32_t seed) {
    __m256i sums[ACCUMULATORS];
    const __m256i left = _mm256_set1_epi32(seed), right = _mm256_set1_epi32(seed + 1);
    for (int i = 0; i < ACCUMULATORS; i++) sums[i] = _mm256_set1_epi32(i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < ACCUMULATORS; i++)
            sums[i] = _mm256_dpbusd_avx_epi32(sums[i], left, right);
    return sum_of(sums);
}

// vpmaddwd and vpaddd: products of 16 bits, since vpmaddubsw saturates. The empty asm keeps the
// product, which is the same every round, inside the loop.
__attribute__((target("avx2"))) int32_t avx2(int64_t rounds, int32_t seed) {
    __m256i sums[ACCUMULATORS];
    __m256i left = _mm256_set1_epi32(seed);
    const __m256i right = _mm256_set1_epi32(seed + 1);
    for (int i = 0; i < ACCUMULATORS; i++) sums[i] = _mm256_set1_epi32(i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < ACCUMULATORS; i++) {
            asm volatile("" : "+x"(left));
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(left, right));
        }
    return sum_of(sums);
}

#elif defined(__aarch64__)

__attribute__((target("dotprod"))) int32_t sdot(int64_t rounds, int32_t seed) {
    int32x4_t sums[ACCUMULATORS];
    const int8x16_t left = vdupq_n_s8(seed), right = vdupq_n_s8(seed + 1);
    for (int i = 0; i < ACCUMULATORS; i++) sums[i] = vdupq_n_s32(i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < ACCUMULATORS; i++) sums[i] = vdotq_s32(sums[i], left, right);
    for (int i = 1; i < ACCUMULATORS; i++) sums[0] = vaddq_s32(sums[0], sums[i]);
    return vaddvq_s32(sums[0]);
}

__attribute__((target("i8mm"))) int32_t smmla(int64_t rounds, int32_t seed) {
    int32x4_t sums[ACCUMULATORS];
    const int8x16_t left = vdupq_n_s8(seed), right = vdupq_n_s8(seed + 1);
    for (int i = 0; i < ACCUMULATORS; i++) sums[i] = vdupq_n_s32(i);
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < ACCUMULATORS; i++) sums[i] = vmmlaq_s32(sums[i], left, right);
    for (int i = 1; i < ACCUMULATORS; i++) sums[0] = vaddq_s32(sums[0], sums[i]);
    return vaddvq_s32(sums[0]);
}

#endif

// For every CPU; vectorised by the compiler.
int32_t scalar(int64_t rounds, int32_t seed) {
    int32_t sums[ACCUMULATORS] = {};
    for (int64_t round = 0; round < rounds; round++)
        for (int i = 0; i < ACCUMULATORS; i++) {
            asm volatile("" : "+r"(seed));
            sums[i] += seed * i;
        }
    int32_t total = 0;
    for (int32_t sum : sums) total += sum;
    return total;
}

struct Instruction {
    const char* name;
    int32_t (*run)(int64_t rounds, int32_t seed);
    double operations;  // per vector
};

#if defined(__x86_64__)

// The register state that the operating system saves: bits 1 and 2 for AVX, 5 to 7 for AVX-512.
// CPUID is used, since __builtin_cpu_supports is always false with the compiler of ziglang.
bool saved(uint32_t bits) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & bits) == bits;
}

Instruction best_instruction() {
    uint32_t a = 0, b = 0, c = 0, d = 0, a1 = 0;
    __get_cpuid_count(7, 1, &a1, &b, &c, &d);
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    if ((c & bit_AVX512VNNI) && saved(0xe6)) return {"AVX-512 VNNI", avx512_vnni, 128};
    if ((a1 & (1 << 4)) && saved(0x06)) return {"AVX-VNNI", avx_vnni, 64};
    if ((b & bit_AVX2) && saved(0x06)) return {"AVX2", avx2, 32};
    return {"scalar", scalar, 2};
}

#else

Instruction best_instruction() {
#if defined(__aarch64__) && defined(__linux__)
    if (getauxval(AT_HWCAP2) & (1 << 13)) return {"SMMLA", smmla, 64};
    if (getauxval(AT_HWCAP) & (1 << 20)) return {"SDOT", sdot, 32};
#elif defined(__aarch64__)
    return {"SDOT", sdot, 32};
#endif
    return {"scalar", scalar, 2};
}

#endif

typedef uint64_t Line __attribute__((vector_size(64)));  // a cache line

constexpr int64_t kLines = kBytes / sizeof(Line);
// The streams that a thread reads in turns, and the distance of prefetching. One stream without
// prefetching reaches 31 GB/s instead of 53 (two Zen 5 cores, pages of 4 KB).
constexpr int kStreams = 4;
constexpr int64_t kAhead = 16;

Line* memory;  // kLines lines, every page touched

struct Task {
    int number;     // of the thread
    int64_t first;  // line of `memory` from which this thread reads
    int64_t lines;  // of each of its streams
    Instruction instruction;
};

#if defined(__linux__)
cpu_set_t allowed;  // cores of this process
#endif

// Binds a thread to its own core: two threads that start on one core stay there for a whole try.
void pin(int number) {
#if defined(__linux__)
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || number-- > 0) continue;
        cpu_set_t own;
        CPU_ZERO(&own);
        CPU_SET(cpu, &own);
        sched_setaffinity(0, sizeof own, &own);
        return;
    }
#endif
}

void* multiply(void* argument) {
    pin(static_cast<Task*>(argument)->number);
    sink = static_cast<Task*>(argument)->instruction.run(kRounds, 3);
    return nullptr;
}

void* read(void* argument) {
    const Task& task = *static_cast<Task*>(argument);
    pin(task.number);
    const Line* start = memory + task.first;
    Line sums[kStreams] = {};
    for (int64_t line = 0; line < task.lines; line++)
        for (int i = 0; i < kStreams; i++) {
            __builtin_prefetch(start + i * task.lines + line + kAhead);
            sums[i] += start[i * task.lines + line];
        }
    Line total = {};
    for (const Line& sum : sums) total += sum;
    sink = static_cast<int32_t>(total[0]);
    return nullptr;
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The seconds of the fastest of kTries in which all threads start their tasks together.
double seconds(void* (*work)(void*), Task* tasks, int threads) {
    double least = 1e30;
    for (int attempt = 0; attempt < kTries; attempt++) {
        pthread_t ids[kMaxThreads];
        const double started = now();
        for (int i = 1; i < threads; i++) pthread_create(&ids[i], nullptr, work, &tasks[i]);
        work(&tasks[0]);
        for (int i = 1; i < threads; i++) pthread_join(ids[i], nullptr);
        const double taken = now() - started;
        if (taken < least) least = taken;
    }
    return least;
}

double operations_per_second(Task* tasks, int threads) {
    const double operations = tasks[0].instruction.operations * ACCUMULATORS * kRounds * threads;
    return operations / seconds(multiply, tasks, threads);
}

}  // namespace

int main(int count, char** words) {
    const int threads = count > 1 ? atoi(words[1]) : 1;
    if (threads < 1 || threads > kMaxThreads) return 2;
    memory = static_cast<Line*>(aligned_alloc(sizeof(Line), kBytes));
    if (memory == nullptr) return 1;
    for (int64_t line = 0; line < kLines; line++)
        memory[line] = Line{} + static_cast<uint64_t>(line);
#if defined(__linux__)
    sched_getaffinity(0, sizeof allowed, &allowed);
#endif
    Task tasks[kMaxThreads];
    const int64_t lines = kLines / threads / kStreams;
    for (int i = 0; i < threads; i++) tasks[i] = {i, lines * kStreams * i, lines, best_instruction()};
    // The peak of one core times the threads: starting threads takes a quarter of a short try.
    const double one = operations_per_second(tasks, 1), all = one * threads;
    const double read_bytes = static_cast<double>(lines * kStreams * threads * sizeof(Line));
    const double bytes = read_bytes / seconds(read, tasks, threads);
    printf("{\"instruction\": \"%s\", \"gops_per_core\": %.1f, \"gops\": %.1f, ",
           tasks[0].instruction.name, one / 1e9, all / 1e9);
    printf("\"gb_per_second\": %.2f}\n", bytes / 1e9);
    return 0;
}
