// What each instruction set provides: one table of functions, made from the same sources (isa_<isa>.cpp).
#pragma once

#include "core/block.h"
#include "core/packing.h"
#include "cpu/plan.h"

namespace mnv2::cpu {

// Output rows [row_begin, row_end) of one image, computed by one thread in scratch of plan->scratch_bytes.
struct BlockTask {
    const InvertedResidualParams* params;
    const BlockPlan* plan;
    InputView x;          // the image; stride_n is of no use here
    const float* packed;  // behind the header
    void* y;              // the image's result, NHWC
    int64_t row_begin, row_end;
    float* scratch;
};

struct StemTask {
    const StemParams* params;
    const StemPlan* plan;
    InputView x;
    const float* packed;
    void* y;
    int64_t row_begin, row_end;
    float* scratch;
};

// Output channels [channel_begin, channel_end) of one image; channel_begin is a multiple of a panel's width.
struct HeadPoolTask {
    const HeadPoolParams* params;
    const HeadPoolPlan* plan;
    InputView x;
    const float* packed;
    void* y;  // the image's out_channels values
    int64_t channel_begin, channel_end;
    float* scratch;
};

struct Kernels {
    const char* name;
    PackLayout layout;
    void (*inverted_residual)(const BlockTask&);
    void (*stem)(const StemTask&);
    void (*head_pool)(const HeadPoolTask&);
    double (*fma_burst)(int64_t rounds, float* sink);
};

}  // namespace mnv2::cpu
