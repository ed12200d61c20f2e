// Pointwise layers by the width of a panel: pointwise_panel<VECTORS, END, IS_NARROW>(run), which the file that includes this
// one has included, does one of 16 * VECTORS channels.
#pragma once

#include <cstdint>

#include "cpu/int8/simd/x86/avx512_tiles-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

template <int VECTORS, End END>
void pointwise_with_end(const PointwiseRun& run)
{
    run.y_width < run.width ? pointwise_panel<VECTORS, END, true>(run) : pointwise_panel<VECTORS, END, false>(run);
}

template <int VECTORS>
void pointwise_of_width(const PointwiseRun& run)
{
    run.shortcut ? pointwise_with_end<VECTORS, End::shortcut>(run) : pointwise_with_end<VECTORS, End::bytes>(run);
}

void pointwise(const PointwiseRun& run)
{
    if (run.width == 64) return pointwise_of_width<4>(run);
    if (run.width == 32) return pointwise_of_width<2>(run);
    pointwise_of_width<1>(run);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
