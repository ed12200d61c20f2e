// The inverted residual whose expanded tensor never leaves the registers: for blocks with few input channels.
//
// A warp makes eight patches of output pixels, one for each row group of its mma fragments. The four lanes of a group hold
// the patch's input pixels, halo included, as A fragments; they expand them eight channels at a time and then hold every
// neighbour that the depthwise convolution asks for; its outputs are the A fragments of the projection. Each patch
// expands its own halo: tensor cores have time for it, while shared memory was busy for 51 to 68 % of an H100's cycles with a
// kernel that exchanged the expanded tensor there. Shared memory holds the weights of the whole block; once they have come,
// warps never meet.
//
// Packed weights: the projection's bias, then a step for every 16 expanded channels. A step is two halves of eight
// channels, then the projection's B fragments; a half is the expand layer's B fragments and the constants of four lanes.
#pragma once

#include <cstdint>

#include "cuda/common/depthwise.cuh"
#include "cuda/common/ptx.cuh"
#include "cuda/register_block/patch.cuh"

namespace mnv2::cuda {

// The weights of one half of a step, eight expanded channels, in a lane's registers.
template <class Block>
struct HalfWeights {
    uint32_t b[Block::depth16 * 2 + 1];  // the expand layer's fragments
    float expand_bias[4];
    uint32_t taps[kernel_taps], depthwise_bias;

    __device__ __forceinline__ HalfWeights(const uint8_t* weights, const PatchLane& lane)
    {
#pragma unroll
        for (int k = 0; k < Block::depth16; ++k) {
            const uint2 fragment = ptx::load_shared<uint2>(weights + k * fragment16_bytes + lane.lane * 8);
            b[k * 2] = fragment.x;
            b[k * 2 + 1] = fragment.y;
        }
        if constexpr (Block::depth8)
            b[Block::depth16 * 2] = ptx::load_shared<uint32_t>(weights + Block::depth16 * fragment16_bytes + lane.lane * 4);

        const uint8_t* const constants = weights + Block::expand_bytes + lane.quad * half_constants_bytes;
        const float4 bias = ptx::load_shared<float4>(constants);
        const uint4 taps0 = ptx::load_shared<uint4>(constants + 16);
        const uint4 taps4 = ptx::load_shared<uint4>(constants + 32);
        const uint2 rest = ptx::load_shared<uint2>(constants + 48);
        expand_bias[0] = bias.x, expand_bias[1] = bias.y, expand_bias[2] = bias.z, expand_bias[3] = bias.w;
        taps[0] = taps0.x, taps[1] = taps0.y, taps[2] = taps0.z, taps[3] = taps0.w;
        taps[4] = taps4.x, taps[5] = taps4.y, taps[6] = taps4.z, taps[7] = taps4.w;
        taps[8] = rest.x;
        depthwise_bias = rest.y;
    }
};

// Eight channels of the patch's expanded pixels: each register holds a pixel's pair.
template <class Block>
using ExpandedPixels = uint32_t[2 * Block::expanded_tiles];

template <class Block>
__device__ __forceinline__ void expand_half(const PatchPixels<Block>& pixels, const HalfWeights<Block>& weights, uint32_t high,
                                            ExpandedPixels<Block>& expanded)
{
    using T = typename Block::T;
#pragma unroll
    for (int t = 0; t < Block::expanded_tiles; ++t) {
        float tile[4];
#pragma unroll
        for (int k = 0; k < Block::depth16; ++k) {
            const uint32_t a[4] = {pixels[t][k * 4], pixels[t][k * 4 + 1], pixels[t][k * 4 + 2], pixels[t][k * 4 + 3]};
            if (k == 0)
                ptx::mma_m16n8k16<T>(tile, a, weights.b, weights.expand_bias);
            else
                ptx::mma_m16n8k16<T>(tile, a, weights.b + k * 2, tile);
        }
        if constexpr (Block::depth8) {
            const uint32_t a[2] = {pixels[t][Block::depth16 * 4], pixels[t][Block::depth16 * 4 + 1]};
            ptx::mma_m16n8k8<T>(tile, a, weights.b[Block::depth16 * 2]);
        }
        expanded[2 * t] = ptx::min2<T>(ptx::pack2_relu<T>(tile[0], tile[1]), high);
        expanded[2 * t + 1] = ptx::min2<T>(ptx::pack2_relu<T>(tile[2], tile[3]), high);
    }
}

// The depthwise outputs as A fragments of the projection, for 16 expanded channels.
template <class Block>
using PatchOutputs = uint32_t[Block::output_tiles][4];

template <class Block>
__device__ __forceinline__ void convolve_half(const ExpandedPixels<Block>& expanded, const HalfWeights<Block>& weights,
                                              uint32_t high, int half, PatchOutputs<Block>& outputs)
{
#pragma unroll
    for (int o = 0; o < Block::outputs; ++o) {
        const int y = o / Block::patch_width * Block::stride, x = o % Block::patch_width * Block::stride;
        uint32_t window[kernel_taps];
#pragma unroll
        for (int i = 0; i < kernel_taps; ++i) window[i] = expanded[(y + i / 3) * Block::expanded_width + x + i % 3];
        outputs[o / 2][half * 2 + o % 2] = depthwise<typename Block::T>(window, weights.taps, weights.depthwise_bias, high);
    }
}

template <class Block>
__device__ __forceinline__ void project_step(const uint8_t* weights, int lane, const PatchOutputs<Block>& outputs,
                                             PatchSums<Block>& sum)
{
#pragma unroll
    for (int n = 0; n < Block::column_tiles; ++n) {
        const uint2 fragment = ptx::load_shared<uint2>(weights + n * fragment16_bytes + lane * 8);
        const uint32_t b[2] = {fragment.x, fragment.y};
#pragma unroll
        for (int m = 0; m < Block::output_tiles; ++m) ptx::mma_m16n8k16<typename Block::T>(sum[m][n], outputs[m], b, sum[m][n]);
    }
}

// Expands 16 channels of the patch, convolves them and adds their projection to the sums.
template <class Block>
__device__ __forceinline__ void make_step(const uint8_t* weights, const PatchLane& lane, const PatchMask<Block>& mask,
                                          const PatchPixels<Block>& pixels, uint32_t high, PatchSums<Block>& sum)
{
    PatchOutputs<Block> outputs;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const HalfWeights<Block> half_weights(weights + half * Block::half_bytes, lane);
        ExpandedPixels<Block> expanded;
        expand_half<Block>(pixels, half_weights, high, expanded);
        if (mask.border) {
#pragma unroll
            for (int i = 0; i < Block::expanded_pixels; ++i) expanded[i] &= mask.at(i);
        }
        __syncwarp();
        convolve_half<Block>(expanded, half_weights, high, half, outputs);
    }
    project_step<Block>(weights + 2 * Block::half_bytes, lane.lane, outputs, sum);
}

// Brings the weights of the whole block to shared memory.
template <class Block>
__device__ __forceinline__ void fetch_weights(const RegisterBlockArguments& p, uint8_t* shared)
{
    const uint8_t* const steps = p.packed + Block::bias_bytes;
    for (int at = threadIdx.x * 16; at < p.steps * Block::step_bytes; at += Block::threads * 16)
        ptx::cp_async16(shared + at, steps + at);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    __syncthreads();
}

template <class Block>
__global__ void __launch_bounds__(Block::threads, Block::blocks_per_sm) register_block_kernel(RegisterBlockArguments p)
{
    using T = typename Block::T;
    MNV2_DYNAMIC_SHARED(shared);
    const int lane_index = threadIdx.x % 32, warp = threadIdx.x / 32;
    const PatchLane lane{lane_index, lane_index / 4, lane_index % 4};
    fetch_weights<Block>(p, shared);

    const uint32_t high = ptx::pack2<T>(p.high, p.high);
    const int64_t warp_stride = static_cast<int64_t>(gridDim.x) * Block::warps * patches_per_warp;
    for (int64_t first = (static_cast<int64_t>(blockIdx.x) * Block::warps + warp) * patches_per_warp; first < p.patches;
         first += warp_stride) {
        const Patch patch = patch_of<Block>(p, first + lane.group);
        const PatchMask<Block> mask(p, patch);
        PatchPixels<Block> pixels;
        load_pixels<Block>(p, patch, mask, lane.quad, pixels);
        PatchSums<Block> sum = {};
        const uint8_t* weights = shared;
#pragma unroll 1
        for (int step = 0; step < p.steps; ++step, weights += Block::step_bytes)
            make_step<Block>(weights, lane, mask, pixels, high, sum);
        store_patch<Block>(p, patch, pixels, sum, lane.quad);
    }
}

}  // namespace mnv2::cuda
