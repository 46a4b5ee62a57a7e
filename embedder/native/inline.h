// Functions that kernels use are always inlined: kernels are compiled for different CPUs, and of
// several copies of a function the linker would keep any one.
#pragma once

#define ALWAYS_INLINE __attribute__((always_inline))  // a member function
#define INLINE static inline ALWAYS_INLINE
