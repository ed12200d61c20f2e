// How tile_block's kernels cover an image with tiles.
#pragma once

#include <cstdint>

#include "core/packing.h"
#include "cuda/gpu.h"
#include "cuda/stream.h"
#include "cuda/tile_block/config.h"

namespace mnv2::cuda {

// A tile by its strips and images; warps is 0 where the kernel cannot make it.
struct TilePlan {
    TileShape shape;
    TileArguments arguments{};
    int warps = 0;
    int64_t blocks = 0;
};

// What cluster_block's plans have in common with tile_block's.
void set_shape(const InvertedResidualParams& params, TileArguments& a);
void set_tile(const TileShape& shape, const InvertedResidualParams& params, int strips, int images, TileArguments& a);

// Whether a strip holds patches of two images, or of the two halves of a tile.
inline bool is_narrow(const InvertedResidualParams& params)
{
    return params.out_width() <= strip_patches / 2 * patch_size;
}

// Why no kernel serves a block with weights packed for this type (reasons.h), null where one does. It does not depend on the
// image.
const char* why_not_tiles(const InvertedResidualParams& params, ScalarType type);

// Bytes of packed weights, 0 where no kernel serves the block.
int64_t tile_block_bytes(const InvertedResidualParams& params, ScalarType type);

void pack_tile_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                     const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream);

// The same for a block that is served, and the bytes of the project layer's bias, which they begin with.
int64_t tile_packed_bytes(const InvertedResidualParams& params);
int64_t tile_bias_bytes(const InvertedResidualParams& params);

// Equal tiles that cover the image, as few as fit, but more where multiprocessors would be idle.
TilePlan best_tile_plan(const TileShape& shape, const InvertedResidualParams& params, const Gpu& gpu);

// The plan of the block's own form where its tiles keep the GPU busy, else of the shared form, whose thread blocks have more
// warps. The plan's warps are 0 where the GPU has too little shared memory.
TilePlan plan_tiles(const InvertedResidualParams& params, ScalarType type, const Gpu& gpu);

void launch_plan(const TilePlan& plan, ScalarType type, const void* x, const void* packed, void* y, const Gpu& gpu,
                 Stream stream);

}  // namespace mnv2::cuda
