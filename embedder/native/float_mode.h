// The rounding mode of the engine, whatever the calling thread has set.
#pragma once
#include <stdint.h>

// While it exists: round to nearest even, and do not flush subnormal numbers to zero.
class FloatMode {
 public:
    FloatMode() : before_(get()) { set(DEFAULT); }
    ~FloatMode() { set(before_); }

 private:
#if defined(__x86_64__)
    static constexpr uint32_t DEFAULT = 0x1f80;  // MXCSR: all exceptions masked
    static uint32_t get() { return __builtin_ia32_stmxcsr(); }
    static void set(uint32_t mode) { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
    static constexpr uint64_t DEFAULT = 0;
    static uint64_t get() {
        uint64_t mode;
        asm volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void set(uint64_t mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
#else
    static constexpr int DEFAULT = 0;
    static int get() { return 0; }
    static void set(int) {}
#endif
    decltype(get()) before_;
};
