// The multiply-add peaks of one core, measured.
#pragma once

namespace mnv2::cpu {

// GFLOP/s of independent float32 multiply-adds on the selected instruction set: the best of several short bursts, because a
// shared machine only takes away. Takes some 20 ms.
double measure_fma_peak();

// The same of bytes: GOP/s, two operations a product, as the selected instruction set for int8 adds them up.
double measure_dot_peak();

}  // namespace mnv2::cpu
