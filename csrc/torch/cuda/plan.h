// Where a chain's packed weights lie on NVIDIA's GPUs, and what a call of it launches.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "cuda/launch.h"
#include "torch/allocate.h"
#include "torch/checks.h"

namespace mnv2::ops {

// With joined the first two layers, a stem and a block, are computed by one kernel and packed together.
struct ChainFormat {
    bool joined;
    std::vector<int64_t> offsets;  // each layer's; joined ones have the same
    int64_t bytes;                 // tells the type that they are packed for
};

ChainFormat format_of(const Layers& layers, ScalarType type);

// One kernel's launch, and where its weights begin.
struct PlannedLaunch {
    cuda::Launch launch;
    int64_t packed_at;
};

// A linear layer, which is torch's, and where its weights begin.
struct PlannedLinear {
    LinearParams params;
    int64_t packed_at;
};

// What prepared.h keeps.
struct CudaPlan {
    Device device;
    ScalarType packed_type;
    int64_t packed_bytes;
    bool begins_with_stem;
    std::vector<PlannedLaunch> launches;       // of layers of images; none for an empty batch
    std::array<TensorShape, 2> activations;    // bytes: launches take turns with them, but the last one has a result of its own
    int64_t scratch_bytes = 0;                 // the most that a launch needs
    std::optional<TensorShape> images_result;  // none where linear layers are alone
    std::vector<PlannedLinear> linears;        // behind them, or all that there is

    CudaPlan(const char* op, const Layers& layers, ScalarType type, const Tensor& x, const Tensor& packed);

    bool serves(const char* op, const Tensor& x, const Tensor& packed) const;
};

}  // namespace mnv2::ops
