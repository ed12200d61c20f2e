// Kernels of instruction sets that few processors have, from the same sources for AVX-512 VNNI, which more of them have.
#pragma once

#include "cpu/int8/kernels.h"

namespace mnv2::test {

extern const cpu::int8::Kernels avx_vnni_evex;
extern const cpu::int8::Kernels amx_int8_emulated;

}  // namespace mnv2::test
