// What each instruction set provides: one table of functions, made from the same sources by isa/isa_<isa>.cpp.
#pragma once

#include "core/block.h"
#include "core/packing.h"
#include "cpu/plan.h"

namespace mnv2::cpu {

// A batch of images to read: a tensor of any strides, or blocked, as one kernel of a network leaves them to the next: in the
// layout's stored type, [channels / lanes][pixels][lanes] with room for a whole last vector. Strides count elements. Bytes
// stand for numbers of dtype; only a stem with a table reads them.
struct ImageView {
    const void* data;
    ScalarType dtype;
    bool blocked;
    int64_t stride_n;
    int64_t stride_vector;  // from a vector of channels to the next
    int64_t stride_c, stride_h, stride_w;
    bool is_bytes = false;
};

// Where results go: a contiguous NHWC tensor, or blocked.
struct ResultView {
    void* data;
    ScalarType dtype;   // what the results are rounded to
    ScalarType stored;  // the type that holds them
    bool blocked;
    int64_t stride_n, stride_vector, stride_pixel;
};

// A segment of one image, computed by one thread in scratch of plan->scratch_bytes.
struct BlockTask {
    const InvertedResidualParams* params;
    const BlockPlan* plan;
    ImageView x;
    const float* packed;  // behind the header
    ResultView y;
    int64_t begin, end;  // output rows; vectors of expanded channels in expand_and_depthwise and gate_depthwise, output
                         // channels in project
    float* scratch;
    void* depthwise_out = nullptr;  // the image's depthwise results, where all are kept
    float* means = nullptr;         // of these, a number for each channel, where the block has a gate
};

// Output rows [row_begin, row_end).
struct StemTask {
    const StemParams* params;
    const StemPlan* plan;
    ImageView x;
    const float* packed;
    ResultView y;
    int64_t row_begin, row_end;
    float* scratch;
};

// Output channels [channel_begin, channel_end); channel_begin is a multiple of a panel's width.
struct HeadPoolTask {
    const HeadPoolParams* params;
    const HeadPoolPlan* plan;
    ImageView x;
    const float* packed;
    ResultView y;  // one pixel
    int64_t channel_begin, channel_end;
    float* scratch;
};

// Output channels of a linear layer for all vectors of a batch, which are x's pixels.
struct LinearTask {
    const LinearParams* params;
    const LinearPlan* plan;
    ImageView x;
    const float* packed;
    ResultView y;
    int64_t channel_begin, channel_end;
    float* scratch;
};

struct Kernels {
    const char* name;
    PackLayout layout;
    void (*inverted_residual)(const BlockTask&);
    // The same bits without fusing, a whole image by a plan of unfused_cuts: what the fused block is measured against.
    void (*unfused_inverted_residual)(const BlockTask&, int64_t strip_rows);
    // The fused block in two passes over segments of its channels; between them all depthwise results are computed.
    void (*expand_and_depthwise)(const BlockTask&);
    void (*project)(const BlockTask&);
    // A block with a gate, in two passes likewise: over vectors of expanded channels, then over output rows.
    void (*gate_depthwise)(const BlockTask&);
    void (*gate_project)(const BlockTask&);
    // A block without expand and shortcut on the results of a stem, which are never stored. x and scratch are the stem's.
    void (*stem_and_block)(const StemTask&, const BlockTask&);
    void (*stem)(const StemTask&);
    void (*head_pool)(const HeadPoolTask&);
    void (*linear)(const LinearTask&);
    double (*fma_burst)(int64_t rounds, float* sink);
};

}  // namespace mnv2::cpu
