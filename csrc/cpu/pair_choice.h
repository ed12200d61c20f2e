// Which layers of new packed weights are in pairs. The choice is packed with the weights, so that nothing else decides which
// kernel runs.
#pragma once

#include <optional>

#include "core/block.h"
#include "core/packing.h"
#include "cpu/kernels.h"

namespace mnv2::cpu {

// Whether multiply-adds and additions issue side by side on this processor: measured once a process, in some 5 ms. False where
// the kernels have no pair product.
bool additions_are_free(const Kernels& kernels);

// What is wanted, or what MNV2_PAIR_PRODUCT says, or `safe` where additions are free; `off` where the kernels have no pair
// product. Reads the variable on every call; throws std::runtime_error that lists the choices where it holds none.
PairProduct select_pair_product(const Kernels& kernels, std::optional<PairProduct> wanted = std::nullopt);

// The kernels' layout with room for those layers in pairs: what decides the packed size.
PackLayout with_room_for(PairProduct pairs, const Kernels& kernels);

// The same, and the choice for these weights. An expand or a head under `safe` has to pass the accuracy test: over synthetic
// pixels, at most 1.25 times the root mean square error of the plain product.
PackLayout choose_pairs(PairProduct pairs, const Kernels& kernels, const InvertedResidualParams& params,
                        const ConvolutionWeights& expand, const ConvolutionWeights& project);
PackLayout choose_pairs(PairProduct pairs, const Kernels& kernels, const HeadPoolParams& params,
                        const ConvolutionWeights& weights);

}  // namespace mnv2::cpu
