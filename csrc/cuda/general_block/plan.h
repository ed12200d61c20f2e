// The cut of a layer that general_block is expected to compute the fastest.
#pragma once

#include <cstdint>
#include <limits>

#include "core/packing.h"
#include "cuda/general_block/config.h"
#include "cuda/gpu.h"
#include "cuda/stream.h"

namespace mnv2::cuda {

// How the work is cut.
struct Cut {
    int64_t images, tile_height, tile_width, slice_channels, planes;

    int64_t pixels() const { return images * tile_height * tile_width; }
};

struct GeneralPlan {
    GeneralShape shape{};
    InvertedResidualParams params{};
    Cut cut{};
    GeneralBlockLayout layout{};
    double cycles = std::numeric_limits<double>::infinity();  // infinite: nothing fits the GPU's shared memory

    bool fits() const { return cycles < std::numeric_limits<double>::infinity(); }
};

// Bytes of packed weights: as they are given, in float, for tensors of every type.
int64_t general_block_bytes(const InvertedResidualParams& params, ScalarType packed_type);

void pack_general_block(const InvertedResidualParams& params, ScalarType packed_type, const ConvolutionWeights& expand,
                        const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream);

// Whether the form has the right number of columns for the block's slices.
bool has_columns(const GeneralShape& shape, const InvertedResidualParams& params);

// The cut by a form with the least estimate.
GeneralPlan general_plan_of(const GeneralShape& shape, const InvertedResidualParams& params, const Gpu& gpu);

// What errors say where no plan fits.
constexpr const char* no_general_tile = "the GPU has too little shared memory for any tile of this block";

// The cut with the least estimate of all forms. The layer has images and outputs.
GeneralPlan plan_general(const InvertedResidualParams& params, const Gpu& gpu);

// The last pass of a gated block: its projection of the depthwise results times factors of each image and expanded channel.
struct GatedProjection {
    const void *depthwise_out, *shortcut;
    const float* factors;
};

void launch_gated_projection(const GeneralPlan& plan, ScalarType type, const GatedProjection& from, const void* packed, void* y,
                             const Gpu& gpu, Stream stream);

// `type` is the tensors'.
void launch_plan(const GeneralPlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream);

}  // namespace mnv2::cuda
