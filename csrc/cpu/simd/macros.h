// What the microkernels ask of the compiler.
#pragma once

#define MNV2_INLINE inline __attribute__((always_inline))

// A function that stays one: GCC would copy it for each constant that it is called with.
#if defined(__clang__)
#define MNV2_OUTLINED __attribute__((noinline))
#else
#define MNV2_OUTLINED __attribute__((noinline, noclone))
#endif

// Before a loop with a constant count that has to disappear, because it indexes registers.
#if defined(__clang__)
#define MNV2_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MNV2_UNROLL _Pragma("GCC unroll 64")
#endif

// Hides from the compiler what it knows about the value of a pointer or an integer.
#define MNV2_OPAQUE(variable) __asm__("" : "+r"(variable))
