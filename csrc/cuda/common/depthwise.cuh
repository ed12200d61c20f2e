// One output of the depthwise convolution, as every kernel on tensor cores computes it.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cuda/common/ptx.cuh"

namespace mnv2::cuda {

// Nine taps and a bias for a pair of channels, clamped. Three short sums round less than a long one and run side by side;
// bfloat16's eight bits are too few for a sum, so it is taken in float.
template <class T>
__device__ __forceinline__ uint32_t depthwise(const uint32_t (&window)[kernel_taps], const uint32_t (&weight)[kernel_taps],
                                              uint32_t bias, uint32_t high)
{
    if constexpr (ptx::is_half<T>) {
        uint32_t sum[3];
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            sum[i] = ptx::fma2<T>(weight[i], window[i], i == 0 ? bias : 0u);
            sum[i] = ptx::fma2<T>(weight[i + 3], window[i + 3], sum[i]);
            sum[i] = ptx::fma2<T>(weight[i + 6], window[i + 6], sum[i]);
        }
        const uint32_t one = ptx::pack2<T>(1.0f, 1.0f);
        sum[0] = ptx::fma2<T>(sum[1], one, ptx::fma2<T>(sum[2], one, sum[0]));
        return ptx::min2<T>(ptx::max2<T>(sum[0], 0u), high);
    } else {
        float2 sum = ptx::unpack2<T>(bias);
#pragma unroll
        for (int i = 0; i < kernel_taps; ++i) ptx::add_product(sum, ptx::unpack2<T>(weight[i]), ptx::unpack2<T>(window[i]));
        return ptx::min2<T>(ptx::pack2_relu<T>(sum.x, sum.y), high);
    }
}

}  // namespace mnv2::cuda
