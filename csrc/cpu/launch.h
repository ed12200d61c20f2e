// Entry points of the CPU path. No torch, no allocation visible to the caller; scratch belongs to the threads.
#pragma once

#include "core/block.h"
#include "core/parallel.h"

namespace mnv2::cpu {

// packed: made by pack_block for kernels that this machine runs (see packed_mismatch). y: x's dtype, NHWC, contiguous.
void inverted_residual(const InvertedResidualParams& params, const InputView& x, const void* packed, void* y,
                       const Parallel& parallel);

// y: x's dtype, NHWC, contiguous.
void stem(const StemParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel);

// y: x's dtype, (N, out_channels), contiguous.
void head_pool(const HeadPoolParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel);

}  // namespace mnv2::cpu
