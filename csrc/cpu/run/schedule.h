// One layer on a batch of images: the plan, and its tasks on the caller's threads.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/parallel.h"
#include "cpu/kernels.h"

namespace mnv2::cpu {

// All throw std::bad_alloc where there is no scratch memory. packed: with the header.
void run_block(const Kernels& kernels, const InvertedResidualParams& params, const ImageView& x, const void* packed,
               const ResultView& y, const Parallel& parallel);
void run_stem(const Kernels& kernels, const StemParams& params, const ImageView& x, const void* packed, const ResultView& y,
              const Parallel& parallel);
// The block has neither expand nor shortcut.
void run_stem_and_block(const Kernels& kernels, const StemParams& stem, const InvertedResidualParams& block, const ImageView& x,
                        const void* packed_stem, const void* packed_block, const ResultView& y, const Parallel& parallel);
void run_head_pool(const Kernels& kernels, const HeadPoolParams& params, const ImageView& x, const void* packed,
                   const ResultView& y, const Parallel& parallel);
void run_linear(const Kernels& kernels, const LinearParams& params, const ImageView& x, const void* packed, const ResultView& y,
                const Parallel& parallel);

// Views of what callers bring: a tensor to read, and a contiguous NHWC tensor for results, with the pixels of one image.
ImageView view_of(const InputView& x, const Kernels& kernels);
ResultView nhwc_result(void* y, ScalarType dtype, int64_t pixels, int64_t channels, const Kernels& kernels);

// The same memory from image n on.
ImageView image_of(ImageView x, int64_t n);
ResultView image_of(ResultView y, int64_t n);

}  // namespace mnv2::cpu
