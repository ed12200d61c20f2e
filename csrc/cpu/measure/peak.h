// The multiply-add peak of one core, measured.
#pragma once

namespace mnv2::cpu {

// GFLOP/s of independent float32 multiply-adds on the selected instruction set: the best of several short bursts, because a
// shared machine only takes away. Takes some 20 ms.
double measure_fma_peak();

}  // namespace mnv2::cpu
