// How gated_block cuts a layer, and where its packed weights and what passes leave for the next ones lie.
#pragma once

#include <cstdint>

#include "core/packing.h"
#include "cuda/gated_block/config.h"
#include "cuda/general_block/plan.h"
#include "cuda/gpu.h"
#include "cuda/stream.h"

namespace mnv2::cuda {

// Where the parts of the packed weights begin, in floats: the first pass's chunks, the last pass's weights, and the gate's.
struct GatedOffsets {
    int64_t depthwise, project, squeeze, squeeze_bias, excite, excite_bias, end;
};

GatedOffsets gated_offsets(const InvertedResidualParams& params);

// The first and the last pass as blocks of general_block's packed format: one without output channels, and one that takes the
// depthwise results, without a window.
InvertedResidualParams depthwise_pass(InvertedResidualParams params);
InvertedResidualParams project_pass(InvertedResidualParams params);

// Where things lie in the scratch memory of a launch, in bytes; the depthwise results first, in the tensors' type. More than
// any GPU has where their number is too large for 64 bits.
struct GatedScratch {
    int64_t sums, squeezed, factors, end;
};

struct GatedPlan {
    InvertedResidualParams params{};
    GeneralShape shape{};
    Cut cut{};
    GeneralBlockLayout layout{};
    int64_t chunks_per_block = 0;
    GeneralPlan project{};

    int64_t tiles() const;  // of an image
    GatedScratch scratch(ScalarType type) const;
};

int64_t gated_block_bytes(const InvertedResidualParams& params);

void pack_gated_block(const InvertedResidualParams& params, const BlockConvolutions& weights, void* packed, Stream stream);

// Throws std::runtime_error where the GPU has too little shared memory. The layer has images and outputs.
GatedPlan plan_gated(const InvertedResidualParams& params, const Gpu& gpu);

// `type` is the tensors'; scratch: plan.scratch(type).end bytes.
void launch_plan(const GatedPlan& plan, ScalarType type, const void* x, const void* packed, void* y, void* scratch,
                 const Gpu& gpu, Stream stream);

}  // namespace mnv2::cuda
