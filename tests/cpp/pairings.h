// Every kernel table that has a pair product, with each choice of layers in pairs.
#pragma once

#include "check.h"
#include "core/packing.h"
#include "cpu/kernels.h"
#include "isas.h"

namespace mnv2::test {

inline cpu::Kernels paired(const cpu::Kernels& kernels, PairProduct pairs, bool expand, bool project)
{
    cpu::Kernels result = kernels;
    result.layout.pair_product = pairs;
    result.layout.expand_in_pairs = expand;
    result.layout.project_in_pairs = project;
    return result;
}

// Calls body(kernels) for each instruction set of this machine with a pair product; where there is none, nothing is left to
// check.
template <class Body>
void for_each_pair_isa(ScalarType weights, const Body& body)
{
    ++progress.checks;
    for_each_isa(weights, [&](const cpu::Kernels& kernels) {
        if (kernels.has_pair_product()) body(kernels);
    });
}

// The same with layouts that have the expand, the project or both in pairs.
template <class Body>
void for_each_pairing(ScalarType weights, const Body& body)
{
    for_each_pair_isa(weights, [&](const cpu::Kernels& kernels) {
        body(paired(kernels, PairProduct::safe, true, false));
        body(paired(kernels, PairProduct::all, false, true));
        body(paired(kernels, PairProduct::all, true, true));
    });
}

}  // namespace mnv2::test
