// The entry point of the CPU path. No torch, no allocation visible to the caller; scratch belongs to the threads. Throws
// std::bad_alloc where there is no memory for it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "core/block.h"
#include "core/layer_chain.h"
#include "core/parallel.h"
#include "cpu/run/schedule.h"

namespace mnv2::cpu {

// Images as one stage leaves them to the next, without their data.
struct BlockedImages {
    int64_t width = 0, stride_n = 0, plane = 0;
};

// What runs in one pass over the threads: a layer, or a stem with the block behind it.
struct Stage {
    std::variant<Planned<StemParams>, Planned<InvertedResidualParams>, Planned<HeadPoolParams>, Planned<LinearParams>,
                 PlannedStemAndBlock>
        layers;
    size_t last_layer;
    BlockedImages result;  // the last stage of images has the network's instead
};

// All layers of images, for a number of images that go through them together. The results of consecutive stages take turns in
// two areas.
struct ImagesPlan {
    int64_t count;
    std::vector<Stage> stages;
    std::array<int64_t, 2> area_floats;
};

// What a network needs beside its pointers, for a batch of images of one size and a number of threads. Any threads may run by
// it at once.
struct NetworkPlan {
    const Kernels* kernels;
    int64_t result_pixels, result_channels;
    int64_t whole_images;              // as many as the threads can take whole, each by one thread
    std::optional<ImagesPlan> single;  // of each of them
    std::optional<ImagesPlan> rest;    // of the other images, in segments; neither where linear layers are alone
    std::vector<Stage> linear;         // of the whole batch, whose vectors are the pixels of one image
    BlockedImages vectors;             // what a linear layer reads of the layer in front of it
    int64_t vectors_floats;            // of the largest of these; they take turns in two areas
};

// layers: what read_network read, with their images' sizes, packed for the kernels' instruction set.
NetworkPlan plan_network(const std::vector<NetworkLayer>& layers, const Kernels& kernels, int64_t threads);

// packed: a network of the plan's layers. y: x's dtype, (N, channels of the last layer), contiguous. parallel: of the plan's
// number of threads. At least one image. The same bits as layer by layer. layer_seconds: null, or a number for each layer, to
// which its time is added. A stage's time goes to its last layer. Where images run side by side, only the first one's time
// counts.
void network(const NetworkPlan& plan, const InputView& x, const void* packed, void* y, const Parallel& parallel,
             double* layer_seconds = nullptr);

}  // namespace mnv2::cpu
