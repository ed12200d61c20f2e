// Which kernel serves a block: the fastest that can. Its packed weights do not depend on images, so that all images share them:
// where the number of images decides, it is between kernels of one format.
#include <stdexcept>

#include "cuda/common/packed_length.h"
#include "cuda/launch.h"

namespace mnv2::cuda {

int64_t inverted_residual_bytes(const InvertedResidualParams& params, ScalarType type)
{
    if (const int64_t bytes = register_block_bytes(params, type)) return packed_length(bytes, Format::register_block, type);
    if (const int64_t bytes = tile_block_bytes(params, type)) return packed_length(bytes, Format::tile_block, type);
    return packed_length(general_block_bytes(params, type), Format::general_block, type);
}

void pack_inverted_residual(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                            const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    if (pack_register_block(params, type, expand, depthwise, project, packed, stream)) return;
    if (pack_tile_block(params, type, expand, depthwise, project, packed, stream)) return;
    pack_general_block(params, type, expand, depthwise, project, packed, stream);
}

void inverted_residual(const InvertedResidualParams& params, ScalarType x_type, ScalarType packed_type, const void* x,
                       const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    if (register_block(params, packed_type, x, packed, y, gpu, stream)) return;
    if (tile_block_bytes(params, packed_type) == 0)
        return general_block(params, x_type, packed_type, x, packed, y, gpu, stream);
    if (prefers_cluster_block(params, packed_type, gpu) && cluster_block(params, packed_type, x, packed, y, gpu, stream))
        return;
    if (!tile_block(params, packed_type, x, packed, y, gpu, stream))
        throw std::runtime_error("this block needs more shared memory than the GPU has; MNV2_GPU_BACKEND=triton needs less");
}

}  // namespace mnv2::cuda
