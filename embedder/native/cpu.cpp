#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>

namespace {

struct Registers {
    unsigned a, b, c, d;
};
Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r = {};
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
    return r;
}
bool has(unsigned bits, int bit) { return bits >> bit & 1; }

// XCR0: the register sets that the operating system saves.
unsigned saved_registers() {
    unsigned low, high;
    asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

}  // namespace

// Bit numbers: Intel 64 and IA-32 Software Developer's Manual, CPUID.
int kernels_of_this_cpu(const Kernel* kernels[4]) {
    int count = 0;
    Registers features = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
    unsigned saved = has(features.c, 27) ? saved_registers() : 0;
    bool avx2 =
        has(features.c, 12) && has(features.c, 29) && has(extended.b, 5) && (saved & 0x6) == 0x6;
    // F, DQ, BW, VL and VNNI
    bool avx512 = has(extended.b, 16) && has(extended.b, 17) && has(extended.b, 30) &&
                  has(extended.b, 31) && has(extended.c, 11) && (saved & 0xe6) == 0xe6;
    if (avx2 && avx512) kernels[count++] = &kernel_avx512vnni;
    if (avx2 && has(more.a, 4)) kernels[count++] = &kernel_avxvnni;
    if (avx2) kernels[count++] = &kernel_avx2;
    kernels[count++] = &kernel_portable;
    return count;
}

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

// Bits of AT_HWCAP and AT_HWCAP2: Linux, arch/arm64/include/uapi/asm/hwcap.h.
static bool has_dotprod() { return getauxval(AT_HWCAP) >> 20 & 1; }
static bool has_i8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }
#else
#include <sys/sysctl.h>

static bool has(const char* feature) {
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(feature, &value, &size, nullptr, 0) && value;
}
static bool has_dotprod() { return has("hw.optional.arm.FEAT_DotProd"); }
static bool has_i8mm() { return has("hw.optional.arm.FEAT_I8MM"); }
#endif

int kernels_of_this_cpu(const Kernel* kernels[4]) {
    int count = 0;
    if (has_i8mm()) kernels[count++] = &kernel_i8mm;
    if (has_dotprod()) kernels[count++] = &kernel_dotprod;
    kernels[count++] = &kernel_portable;
    return count;
}

#else
int kernels_of_this_cpu(const Kernel* kernels[4]) {
    kernels[0] = &kernel_portable;
    return 1;
}
#endif
