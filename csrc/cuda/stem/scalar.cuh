// The stem in multiply-adds: any channels and types.
//
// Packed weights: for every 32 output channels their scales, their biases, and the weights of each depth in the order
// (channel, ky, kx). A thread makes some rows of one column, in 16 of the channels: a warp's lanes have 16 columns and
// two halves of the channels, which take turns of four.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/common/activate.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/common/quads.cuh"
#include "cuda/stem/place.cuh"

namespace mnv2::cuda {

// Which outputs of a tile a thread makes, and where it finds their inputs and weights in shared memory.
template <class Tile>
struct StemScalarThread {
    const int lane = threadIdx.x % 32, column = lane / 2, half = lane % 2, first_row = threadIdx.x / 32 * Tile::thread_rows;
    float *const weights, *const inputs;
    const float* const window;

    __device__ __forceinline__ explicit StemScalarThread(uint8_t* shared)
        : weights(reinterpret_cast<float*>(shared)),
          inputs(reinterpret_cast<float*>(shared + Tile::weight_bytes)),
          window(inputs + first_row * Tile::stride * Tile::in_columns + column * Tile::stride)
    {
    }
};

template <class Tile>
using StemScalarSums = float[Tile::thread_rows][stem_thread_channels];

// Calls visit<X>() with the tensors' type.
template <class Tile, class Visit>
__device__ __forceinline__ void with_stem_type(const StemArguments& p, const Visit& visit)
{
    if constexpr (std::is_void_v<typename Tile::X>)
        with_type(p.type, visit);
    else
        visit.template operator()<typename Tile::X>();
}

// Reads a chunk of input channels of a tile.
template <class Tile>
__device__ __forceinline__ void read_stem_inputs(const StemArguments& p, const StemPlace& place, int channel, int channels,
                                                 float* inputs)
{
    const StemPart part{place.image,
                        place.row * Tile::stride - p.padding_top,
                        place.column * Tile::stride - p.padding_left,
                        Tile::in_rows,
                        Tile::in_columns,
                        channel,
                        channels};
    with_stem_type<Tile>(p, [&]<class X>() {
        read_part<X>(p.x, part, threadIdx.x, stem_threads, [&](int y, int x, int c, X value) {
            inputs[c * Tile::channel_floats + y * Tile::in_columns + x] = static_cast<float>(value);
        });
    });
}

// Reads a group's weights of a chunk.
template <class Tile>
__device__ __forceinline__ void read_stem_weights(const float* packed, int channel, int channels, float* weights)
{
    const int taps = channels * Tile::taps;
    const float* const from = packed + (int64_t{channel} * Tile::taps + 2) * stem_group_channels;
    for (int i = threadIdx.x; i < taps * stem_group_channels; i += stem_threads) weights[i] = from[i];
}

// Adds the products of one input channel; x points at the thread's first window.
template <class Tile>
__device__ __forceinline__ void add_stem_channel(const float* x, const float* weights,
                                                 float (&sums)[Tile::thread_rows][stem_thread_channels])
{
#pragma unroll Tile::unrolled_columns
    for (int kx = 0; kx < Tile::kernel; ++kx) {
        float column[Tile::thread_in_rows];
#pragma unroll
        for (int y = 0; y < Tile::thread_in_rows; ++y) column[y] = x[y * Tile::in_columns + kx];
#pragma unroll
        for (int ky = 0; ky < Tile::kernel; ++ky) {
            const float* const tap = weights + (ky * Tile::kernel + kx) * stem_group_channels;
#pragma unroll
            for (int i = 0; i < stem_thread_channels / 4; ++i) {
                const float4 w = *reinterpret_cast<const float4*>(tap + i * 8);
#pragma unroll
                for (int row = 0; row < Tile::thread_rows; ++row) {
                    const float value = column[row * Tile::stride + ky];
                    sums[row][i * 4] += w.x * value;
                    sums[row][i * 4 + 1] += w.y * value;
                    sums[row][i * 4 + 2] += w.z * value;
                    sums[row][i * 4 + 3] += w.w * value;
                }
            }
        }
    }
}

// Scales, activates and stores the outputs of a thread, as far as they exist.
template <class Tile>
__device__ __forceinline__ void store_stem_outputs(const StemArguments& p, const StemScalarThread<Tile>& thread,
                                                   const StemPlace& place, int group, const float* packed,
                                                   const StemScalarSums<Tile>& sums, const StemScalarSums<Tile>& totals)
{
    const int x = place.column + thread.column;
#pragma unroll
    for (int i = 0; i < stem_thread_channels / 4; ++i) {
        const int at = i * 8 + thread.half * 4;
        const float4 scale = load_quad(packed + at), bias = load_quad(packed + stem_group_channels + at);
        const float scales[] = {scale.x, scale.y, scale.z, scale.w}, biases[] = {bias.x, bias.y, bias.z, bias.w};
#pragma unroll
        for (int row = 0; row < Tile::thread_rows; ++row) {
            const int y = place.row + thread.first_row + row;
            if (y >= p.out_height || x >= p.out_width) continue;
            float value[quad_channels];
#pragma unroll
            for (int j = 0; j < quad_channels; ++j) {
                const float sum = Tile::is_long ? totals[row][i * 4 + j] + sums[row][i * 4 + j] : sums[row][i * 4 + j];
                value[j] = activate(p.epilogue, sum * scales[j] + biases[j]);
            }
            with_stem_type<Tile>(p, [&]<class X>() {
                store_channels(stem_output<X>(p, place.image, y, x), group * stem_group_channels + at, p.out_channels,
                               quad_of(value));
            });
        }
    }
}

// Makes a group of output channels of a tile. The inputs stay in shared memory where all of them are one chunk.
template <class Tile>
__device__ __forceinline__ void make_stem_scalar_group(const StemArguments& p, const StemScalarThread<Tile>& thread,
                                                       const StemPlace& place, int group)
{
    const int64_t depth = static_cast<int64_t>(p.in_channels) * Tile::taps;
    const float* const packed = reinterpret_cast<const float*>(p.packed) + group * (depth + 2) * stem_group_channels;
    StemScalarSums<Tile> sums = {}, totals = {};
    int run = 0;
    for (int channel = 0; channel < p.in_channels; channel += Tile::chunk_channels) {
        const int channels = min(Tile::chunk_channels, p.in_channels - channel);
        __syncthreads();
        if (group == 0 || p.in_channels > Tile::chunk_channels)
            read_stem_inputs<Tile>(p, place, channel, channels, thread.inputs);
        read_stem_weights<Tile>(packed, channel, channels, thread.weights);
        __syncthreads();
#pragma unroll 1
        for (int c = 0; c < channels; ++c)
            add_stem_channel<Tile>(thread.window + c * Tile::channel_floats,
                                   thread.weights + c * Tile::taps * stem_group_channels + thread.half * 4, sums);
        if (Tile::is_long && ++run % Tile::run_chunks == 0) move_sums(sums, totals);
    }
    store_stem_outputs<Tile>(p, thread, place, group, packed, sums, totals);
}

}  // namespace mnv2::cuda
