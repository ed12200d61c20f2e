// What the microkernels ask of the compiler.
#pragma once

#define MNV2_INLINE inline __attribute__((always_inline))

// UNROLL: before a loop with a constant count that has to disappear, because it indexes registers. KEEP_LOOP: before one that
// has to stay, because GCC spills accumulators when it unrolls.
#if defined(__clang__)
#define MNV2_UNROLL _Pragma("clang loop unroll(full)")
#define MNV2_KEEP_LOOP _Pragma("clang loop unroll(disable)")
#else
#define MNV2_UNROLL _Pragma("GCC unroll 64")
#define MNV2_KEEP_LOOP _Pragma("GCC unroll 1")
#endif
