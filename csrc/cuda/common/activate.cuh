// Activations of float32 sums, whatever the tensors' type. NaN stays NaN; infinity does what it does in torch.
#pragma once

#include "cuda/common/epilogue.h"
#include "cuda/common/ptx.cuh"

namespace mnv2::cuda {

// clamp(x + 3, 0, 6) / 6
__device__ __forceinline__ float hardsigmoid(float x) { return ptx::clamp(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f); }

// 1 where exp(-x) is too small to count, 0 where it is infinite.
__device__ __forceinline__ float sigmoid(float x) { return ptx::reciprocal(1.0f + ptx::exponential(-x)); }

__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }

__device__ __forceinline__ float activate(const Epilogue& epilogue, float x)
{
    x = ptx::clamp(x, epilogue.clamp.low, epilogue.clamp.high);
    if (epilogue.curve == Curve::hardswish) return x * hardsigmoid(x);
    if (epilogue.curve == Curve::silu) return silu(x);
    return x;
}

// The same for four channels, whose sums get a scale and a bias before.
__device__ __forceinline__ float4 activate(const Epilogue& epilogue, const float4& sums, const float4& scale,
                                           const float4& bias)
{
    const auto each = [&](float sum, float factor, float offset) {
        return ptx::clamp(ptx::multiply_add(sum, factor, offset), epilogue.clamp.low, epilogue.clamp.high);
    };
    float4 y = {each(sums.x, scale.x, bias.x), each(sums.y, scale.y, bias.y), each(sums.z, scale.z, bias.z),
                each(sums.w, scale.w, bias.w)};
    if (epilogue.curve == Curve::hardswish)
        y = {y.x * hardsigmoid(y.x), y.y * hardsigmoid(y.y), y.z * hardsigmoid(y.z), y.w * hardsigmoid(y.w)};
    if (epilogue.curve == Curve::silu) y = {silu(y.x), silu(y.y), silu(y.z), silu(y.w)};
    return y;
}

}  // namespace mnv2::cuda
