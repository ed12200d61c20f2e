// The forms of gated_block's kernels, and what launches tell them.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/epilogue.h"
#include "cuda/general_block/config.h"

namespace mnv2::cuda {

// The first pass has no projection, hence no columns. Sums of pixels depend on the warps, so that images alone decide which.
constexpr GeneralShape gated_shapes[] = {{.warps = 4, .pixels = 4, .columns = 0, .blocks_per_sm = 4},
                                         {.warps = 8, .pixels = 4, .columns = 0, .blocks_per_sm = 2}};

// The first pass: the depthwise results as an image of expanded channels. A slice is what a thread block makes of these.
struct GatedDepthwiseArguments {
    GeneralBlockArguments block;
    float* sums;  // of each image, tile and expanded channel
};

constexpr int gate_warps = 8, gate_threads = 32 * gate_warps;
constexpr int gate_means = 1024;  // channels whose means are in shared memory at a time
constexpr int gate_blocks_per_sm = 4;

// The second pass: a gate's two layers.
struct GateArguments {
    const float* sums;
    const float *squeeze_weights, *squeeze_bias, *excite_weights, *excite_bias;
    float *squeezed, *factors;
    int64_t batch, tiles;  // tiles of an image
    int expanded_channels, squeezed_channels;
    float pixels;  // of an image
    Epilogue squeeze;
    GateActivation excite;
};

}  // namespace mnv2::cuda
