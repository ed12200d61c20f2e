// Everything that is compiled once per instruction set. The including file has defined MNV2_ISA and included its vectors.
#pragma once

#include "core/isa.h"
#include "cpu/generic/gate-inl.h"
#include "cpu/generic/head-inl.h"
#include "cpu/generic/inverted_residual-inl.h"
#include "cpu/generic/linear-inl.h"
#include "cpu/generic/stem-inl.h"
#include "cpu/kernels.h"
#include "cpu/measure/peak-inl.h"
#include "cpu/measure/unfused-inl.h"
#include "cpu/simd/contract-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// The table under a name of its own, for tests that compile vectors of another width.
constexpr Kernels make_kernels(const char* name, Isa isa)
{
    return {name,
            {isa, lanes, panel_vectors, type_of<Stored>},
            inverted_residual,
            unfused_inverted_residual,
            expand_and_depthwise,
            project,
            gate_depthwise,
            gate_project,
            stem_and_block,
            stem,
            head_pool,
            linear,
            fma_burst};
}

// The table of an instruction set, whose vectors have the format that packed weights of its name have.
template <Isa ISA>
constexpr Kernels make_kernels()
{
    constexpr IsaFormat format = format_of(ISA);
    static_assert(format.vector_width == lanes && format.panel_vectors == panel_vectors && format.stored == type_of<Stored>,
                  "core/isa.h says otherwise");
    return make_kernels(format.name, ISA);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
