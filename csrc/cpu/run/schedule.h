// One layer on a batch of images: a plan's tasks on the caller's threads.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/parallel.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"

namespace mnv2::cpu {

// A layer with the plan for a number of threads, and where its packed bytes begin in the buffer that holds them.
template <class Params>
struct Planned {
    Params params;
    decltype(plan_layer(Params{}, PackLayout{}, 1)) plan;
    int64_t packed_at;

    Planned(const Params& of, const PackLayout& layout, int64_t threads, int64_t at = 0)
        : params(of), plan(plan_layer(of, layout, threads)), packed_at(at)
    {
    }
};

// A stem whose results go straight into the block behind it, which has neither expand nor shortcut.
struct PlannedStemAndBlock {
    Planned<StemParams> stem;
    Planned<InvertedResidualParams> block;
};

// All throw std::bad_alloc where there is no scratch memory.
void run(const Kernels& kernels, const Planned<InvertedResidualParams>& block, const ImageView& x, const void* packed,
         const ResultView& y, const Parallel& parallel);
void run(const Kernels& kernels, const Planned<StemParams>& stem, const ImageView& x, const void* packed, const ResultView& y,
         const Parallel& parallel);
void run(const Kernels& kernels, const PlannedStemAndBlock& both, const ImageView& x, const void* packed, const ResultView& y,
         const Parallel& parallel);
void run(const Kernels& kernels, const Planned<HeadPoolParams>& head, const ImageView& x, const void* packed,
         const ResultView& y, const Parallel& parallel);
// x: a batch's vectors as the pixels of one image.
void run(const Kernels& kernels, const Planned<LinearParams>& linear, const ImageView& x, const void* packed,
         const ResultView& y, const Parallel& parallel);

// Views of what callers bring: a tensor to read, and a contiguous NHWC tensor for results, with the pixels of one image.
ImageView view_of(const InputView& x, const Kernels& kernels);
ResultView nhwc_result(void* y, ScalarType dtype, int64_t pixels, int64_t channels, const Kernels& kernels);

// The same memory from image n on.
ImageView image_of(ImageView x, int64_t n);
ResultView image_of(ResultView y, int64_t n);

}  // namespace mnv2::cpu
