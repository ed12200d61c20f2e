// The multiply-add peak of one core, and what additions cost beside it: measured.
#pragma once

#include "cpu/kernels.h"

namespace mnv2::cpu {

// GFLOP/s of independent float32 multiply-adds on the selected instruction set: the best of several short bursts, because a
// shared machine only takes away. Takes some 20 ms.
double measure_fma_peak();

// How many times as long multiply-adds take beside as many additions: 1 where additions have ports of their own, 2 where they
// share. For kernels with a pair product; takes some 5 ms.
double measure_cost_of_additions(const Kernels& kernels);

}  // namespace mnv2::cpu
