// Everything that is compiled once per instruction set. The including file has defined MNV2_ISA and included its vectors.
#pragma once

#include "cpu/generic/head-inl.h"
#include "cpu/generic/inverted_residual-inl.h"
#include "cpu/generic/linear-inl.h"
#include "cpu/generic/stem-inl.h"
#include "cpu/kernels.h"
#include "cpu/measure/peak-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

constexpr Kernels make_kernels(const char* name, Isa isa)
{
    return {name,
            {isa, lanes, panel_vectors, type_of<Stored>},
            inverted_residual,
            unfused_inverted_residual,
            expand_and_depthwise,
            project,
            stem_and_block,
            stem,
            head_pool,
            linear,
            fma_burst};
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
