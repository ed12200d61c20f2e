// How a layer is cut into strips and chunks, and what scratch that takes: small functions of its shape and the caches.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "core/packing.h"
#include "cpu/caches.h"

namespace mnv2::cpu {

// Offsets in floats from the start of a thread's scratch.
struct BlockScratch {
    int64_t x_rows;         // input rows, as many as expanded ones
    int64_t expanded;       // expanded rows
    int64_t depthwise_out;  // a strip's depthwise results
    int64_t result;         // a strip's results before they become 16-bit floats
    int64_t zeros;          // a row of zeros above and below the image
    int64_t gate_input;     // what one of the gate's layers reads
    int64_t squeezed;       // between the gate's layers
    int64_t factors;        // of the expanded channels
};

// The free choices of a plan. A strip is a few output rows. Expand and depthwise run over a chunk of expanded channels at a
// time, the project once a strip over the full depth. Where strips share rows, the scratch holds a strip's rows of all expanded
// channels, and a row is expanded once a segment; otherwise it holds a chunk, and a strip expands all the rows that it needs.
//
// Threads take segments of the output rows, and expand the halo between two segments twice. Where that costs more than a second
// pass, they take segments of the channels: expand and depthwise of some vectors, then the project of some panels.
//
// A block with a gate has two passes anyway: over chunks of expanded channels, each in strips of the whole image that share the
// chunk's rows, then over output rows.
struct BlockCuts {
    int64_t strip_rows;     // output rows; all of them with splits_channels
    int64_t chunk_vectors;  // vectors of expanded channels, a multiple of a weight panel's
    bool shares_rows;       // always where there is no expand
    bool splits_channels;   // never with shares_rows
    int64_t segments;       // of an image, for threads
    bool alternates;        // strips take their channels forwards and backwards in turn
};

struct BlockPlan {
    BlockCuts cuts;
    int64_t expanded_rows;  // held at a time
    BlockScratch scratch;
    int64_t scratch_bytes;         // a thread
    int64_t depthwise_out_floats;  // an image, where all of its depthwise results are kept, for several threads or a gate
    int64_t depthwise_out_plane;   // elements from a vector of these to the next
    int64_t means_floats;          // an image, where it has a gate
    BlockOffsets weights;
};

// Offsets in floats from the start of a thread's scratch.
struct StemPlan {
    int64_t row_floats;  // an input row of one channel: a vector that ends with the left padding, then the image's columns
    int64_t result;      // a row of results before they become 16-bit floats
    int64_t segments;
    int64_t scratch_bytes;
    int64_t table;  // what bytes stand for, in floats from the start of the packed weights
};

// A strip is a number of pixels; its input is held blocked, its results a panel at a time.
struct HeadPoolPlan {
    int64_t strip_pixels;
    int64_t x_rows, panel, sums, means;  // offsets in floats
    int64_t segments;                    // of the output channels
    int64_t scratch_bytes;
};

// A strip is a number of a batch's vectors, its input held blocked.
struct LinearPlan {
    int64_t strip_vectors;
    int64_t x_rows, result;  // offsets in floats
    int64_t segments;        // of the output channels
    int64_t scratch_bytes;
};

// choose_cuts knows what is best for a shape, as far as measured (benchmarks/NOTES.md); plan_block knows what follows from it.
// No choice changes a bit of the result.
BlockCuts choose_cuts(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches,
                      int64_t threads);
BlockPlan plan_block(const InvertedResidualParams& params, const PackLayout& layout, const BlockCuts& cuts);

// A layer's plan for a number of threads, and for this machine's caches.
BlockPlan plan_layer(const InvertedResidualParams& params, const PackLayout& layout, int64_t threads);
StemPlan plan_layer(const StemParams& params, const PackLayout& layout, int64_t threads);
HeadPoolPlan plan_layer(const HeadPoolParams& params, const PackLayout& layout, int64_t threads);
LinearPlan plan_layer(const LinearParams& params, const PackLayout& layout, int64_t threads);

// Cuts for measurements. unfused_cuts puts whole expanded tensors into scratch. An unfused expand or project then takes as many
// rows at a time as fill half of the second-level cache.
BlockCuts unfused_cuts(const InvertedResidualParams& params, const PackLayout& layout);
int64_t unfused_strip_rows(const InvertedResidualParams& params, const PackLayout& layout, const CacheSizes& caches);

// The expanded channels in a number of chunks of whole panels (section 5.1 of arXiv 1801.04381), each over the whole image. The
// block has an expand.
BlockCuts cuts_by_chunks(const InvertedResidualParams& params, const PackLayout& layout, int64_t chunks);

// Elements from a vector of channels to the next in a blocked image with this number of pixels.
int64_t plane_elements(int64_t pixels, const PackLayout& layout);

// Floats in whose memory these elements of the stored type fit.
int64_t stored_floats(int64_t elements, const PackLayout& layout);

// Vectors that hold these channels; channels of a whole weight panel; panels that hold these channels.
int64_t vector_count(int64_t channels, const PackLayout& layout);
int64_t panel_channels(const PackLayout& layout);
int64_t panel_count(int64_t channels, const PackLayout& layout);

}  // namespace mnv2::cpu
