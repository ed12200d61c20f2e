// Why select_block chooses a kernel, in words that `mnv2 info` and docs/gpu.md show.
#pragma once

namespace mnv2::cuda::reasons {

constexpr const char* few_channels = "few channels: the expanded tensor stays in registers";
constexpr const char* tiles_fit = "channels in multiples of 8: a tile of the expanded tensor fits shared memory";
constexpr const char* few_images = "few images: tiles by thread blocks would leave half of the multiprocessors idle";

// For gated_block.
constexpr const char* gate = "a gate: it needs the means of all pixels of what it multiplies";

// For general_block, as no other kernel serves the block.
constexpr const char* float32_weights = "float32 weights: tensor cores are not exact enough";
constexpr const char* no_expand = "no expand layer";
constexpr const char* window = "a depthwise window larger than 3x3";
constexpr const char* activations =
    "activations: expand and depthwise layer do not cut at 0 or differ, or the project layer has one";
constexpr const char* channels = "channels that are no multiples of 8";
constexpr const char* too_wide = "too many channels: shared memory cannot hold a tile and its weights";

}  // namespace mnv2::cuda::reasons
