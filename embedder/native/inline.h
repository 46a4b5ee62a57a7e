// Functions that kernels use are always inlined. Kernels are compiled for different CPUs, and the
// linker would keep an arbitrary one of several copies of a function.
#pragma once

#define ALWAYS_INLINE __attribute__((always_inline))  // a member function
#define INLINE static inline ALWAYS_INLINE
