// How a layer is cut into strips and chunks, and what scratch that takes: small functions of its shape and the caches.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"
#include "cpu/caches.h"

namespace mnv2::cpu {

// Offsets in floats from the start of a thread's scratch.
struct BlockScratch {
    int64_t x_rows;  // input rows, as many as the ring holds
    int64_t ring;    // expanded rows
    int64_t middle;  // a strip's depthwise results
    int64_t result;  // a strip's results before they become 16-bit floats
    int64_t zeros;   // a row of zeros above and below the image
};

// The free choices of a plan. A strip is a few output rows. Expand and depthwise run over chunk_vectors vectors of expanded
// channels at a time, the project once a strip over the full depth. Where strips share rows, the ring holds all expanded
// channels and a row is expanded once a segment; otherwise it holds a chunk, and a strip expands all the rows it needs.
//
// Threads take segments of the output rows, and expand the rows at a seam twice; or, where that is the larger part, segments
// of the channels, in two steps: expand and depthwise of some vectors, then the project of some panels.
struct BlockCuts {
    int64_t strip_rows;     // output rows; all of them with splits_channels
    int64_t chunk_vectors;  // vectors of expanded channels, a multiple of a weight panel's
    bool shares_rows;       // always where there is no expand
    bool splits_channels;   // never with shares_rows
    int64_t segments;       // parts of an image that threads may take
};

struct BlockPlan {
    BlockCuts cuts;
    int64_t ring_rows;  // expanded rows held
    BlockScratch scratch;
    int64_t scratch_bytes;  // a thread
    int64_t middle_floats;  // an image, where threads share them
    BlockOffsets weights;
};

// Offsets in floats from the start of a thread's scratch.
struct StemPlan {
    int64_t row_floats;  // an input row of one channel: a vector that ends with the left padding, then the image's columns
    int64_t result;      // a row of results before they become 16-bit floats
    int64_t segments;
    int64_t scratch_bytes;
};

// A strip is a number of pixels; its input is held blocked, its results a panel at a time.
struct HeadPoolPlan {
    int64_t strip_pixels;
    int64_t x_rows, panel, sums, means;  // offsets in floats
    int64_t segments;                    // parts of the output channels that threads may take
    int64_t scratch_bytes;
};

// A strip is a number of a batch's vectors, its input held blocked.
struct LinearPlan {
    int64_t strip_vectors;
    int64_t x_rows, result;  // offsets in floats
    int64_t segments;        // parts of the output channels
    int64_t scratch_bytes;
};

// What is best for this shape, as far as measured (benchmarks/NOTES.md), and what follows from it. No choice changes a bit of
// the result.
BlockCuts choose_cuts(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches,
                      int64_t threads);
BlockPlan plan_block(const InvertedResidualParams& params, const PackLayout& layout, const BlockCuts& cuts);

StemPlan plan_stem(const StemParams& params, const PackLayout& layout, int64_t threads);
HeadPoolPlan plan_head_pool(const HeadPoolParams& params, const PackLayout& layout, int64_t threads);
LinearPlan plan_linear(const LinearParams& params, const PackLayout& layout, int64_t threads);

// Other cuts than those of choose_cuts, for measurements. Whole expanded tensors in scratch, and the rows that an unfused
// expand or project takes at a time: their values fill a part of the second-level cache.
BlockCuts unfused_cuts(const InvertedResidualParams& params, const PackLayout& layout);
int64_t unfused_strip_rows(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches);

// The expanded channels in so many parts of whole panels (section 5.1 of arXiv 1801.04381), each over the whole image. The
// block has an expand.
BlockCuts cuts_by_channels(const InvertedResidualParams& params, const PackLayout& layout, int64_t parts);

// Elements from a vector of channels to the next in a blocked image of so many pixels.
int64_t plane_elements(int64_t pixels, const PackLayout& layout);

// Floats that so many elements of the stored type take.
int64_t stored_floats(int64_t elements, const PackLayout& layout);

// Vectors that hold so many channels, channels of a weight panel, and panels of a layer.
int64_t vector_count(int64_t channels, const PackLayout& layout);
int64_t panel_channels(const PackLayout& layout);
int64_t panel_count(int64_t channels, const PackLayout& layout);

}  // namespace mnv2::cpu
