// Four channels of a pixel at a time, in global memory as numbers of any type, in registers as floats; and sums of them.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/ptx.cuh"
#include "cuda/common/sizes.h"

namespace mnv2::cuda {

// Calls visit<T>() with the tensors' type.
template <class Visit>
__device__ __forceinline__ void with_type(ScalarType type, const Visit& visit)
{
    switch (type) {
        case ScalarType::float32: return visit.template operator()<float>();
        case ScalarType::float16: return visit.template operator()<__half>();
        case ScalarType::bfloat16: return visit.template operator()<__nv_bfloat16>();
    }
}

template <class T>
__device__ __forceinline__ float load_number(const T* from)
{
    if constexpr (std::is_same_v<T, float>)
        return ptx::load_global_in_place<float>(from);
    else
        return ptx::unpack2<T>(ptx::load_global_in_place<uint16_t>(from)).x;
}

template <class T>
__device__ __forceinline__ void store_number(T* to, float value)
{
    if constexpr (std::is_same_v<T, float>)
        ptx::store_global(to, value);
    else
        ptx::store_global(to, static_cast<uint16_t>(ptx::pack2<T>(value, 0.0f)));
}

template <class T>
__device__ __forceinline__ float4 load_quad(const T* from)
{
    if constexpr (std::is_same_v<T, float>) {
        return ptx::load_global_in_place<float4>(from);
    } else {
        const uint2 words = ptx::load_global_in_place<uint2>(from);
        const float2 low = ptx::unpack2<T>(words.x), high = ptx::unpack2<T>(words.y);
        return {low.x, low.y, high.x, high.y};
    }
}

template <class T>
__device__ __forceinline__ void store_quad(T* to, const float4& values)
{
    if constexpr (std::is_same_v<T, float>)
        ptx::store_global(to, values);
    else
        ptx::store_global(to, uint2{ptx::pack2<T>(values.x, values.y), ptx::pack2<T>(values.z, values.w)});
}

// Four channels of a pixel, from a multiple of four on; zero beyond the last channel. Pixels are aligned to quads where their
// channels are whole quads.
template <class T>
__device__ __forceinline__ float4 load_channels(const T* pixel, int channel, int channels)
{
    float4 values{};
    if (channels % quad_channels == 0) {
        if (channel < channels) values = load_quad(pixel + channel);
        return values;
    }
    if (channel < channels) values.x = load_number(pixel + channel);
    if (channel + 1 < channels) values.y = load_number(pixel + channel + 1);
    if (channel + 2 < channels) values.z = load_number(pixel + channel + 2);
    if (channel + 3 < channels) values.w = load_number(pixel + channel + 3);
    return values;
}

// Stores the channels of a quad that exist.
template <class T>
__device__ __forceinline__ void store_channels(T* pixel, int channel, int channels, const float4& values)
{
    if (channel >= channels) return;
    if (channels % quad_channels == 0) return store_quad(pixel + channel, values);
    store_number(pixel + channel, values.x);
    if (channel + 1 < channels) store_number(pixel + channel + 1, values.y);
    if (channel + 2 < channels) store_number(pixel + channel + 2, values.z);
    if (channel + 3 < channels) store_number(pixel + channel + 3, values.w);
}

__device__ __forceinline__ float4 quad_of(const float* values) { return {values[0], values[1], values[2], values[3]}; }

__device__ __forceinline__ void set_quad(float* values, const float4& quad)
{
    values[0] = quad.x, values[1] = quad.y, values[2] = quad.z, values[3] = quad.w;
}

// Adds the sums of a run to the totals and starts them anew.
template <int rows, int columns>
__device__ __forceinline__ void move_sums(float (&sums)[rows][columns], float (&totals)[rows][columns])
{
#pragma unroll
    for (int i = 0; i < rows; ++i)
#pragma unroll
        for (int j = 0; j < columns; ++j) {
            totals[i][j] += sums[i][j];
            sums[i][j] = 0.0f;
        }
}

}  // namespace mnv2::cuda
