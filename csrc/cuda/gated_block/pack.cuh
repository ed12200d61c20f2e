// Packs the weights of gated_block.
#pragma once

#include <cstdint>

#include "cuda/gated_block/plan.h"
#include "cuda/general_block/pack.cuh"

namespace mnv2::cuda {

// Weights and biases of a gate's layers: excite's by squeezed channels, so that neighbouring threads read neighbouring numbers.
struct GateWords {
    LayerWeights squeeze, excite;
    GatedOffsets at;

    // i counts from the squeeze's weights on.
    __device__ uint32_t operator()(int64_t i) const { return ptx::float_word(value(i + at.squeeze)); }

private:
    __device__ float value(int64_t i) const
    {
        if (i < at.squeeze_bias) return squeeze.weight((i - at.squeeze) / squeeze.depth, (i - at.squeeze) % squeeze.depth);
        if (i < at.excite) return squeeze.bias(i - at.squeeze_bias);
        if (i < at.excite_bias) return excite.weight((i - at.excite) % excite.channels, (i - at.excite) / excite.channels);
        return excite.bias(i - at.excite_bias);
    }
};

}  // namespace mnv2::cuda
