// The inverted residual whose expanded tensor is exchanged through shared memory, 32 channels at a time: for blocks with too
// many channels for register_block, and for all widths.
//
// A thread block makes a tile of output pixels: strips of eight patches of 2x2 pixels, a patch for each row group of an mma's
// fragments. The patches of a strip lie side by side (16 columns). Where the image has at most eight columns, only four of
// them do, and the other four belong to a second image or to the lower half of the tile.
//
// The steps of neighbouring chunks of expanded channels overlap, so that one barrier a step is enough and warps find work for
// tensor cores, shared memory and arithmetic units between two barriers. In step s the block
//   - expands chunk s: mma over the tile's input pixels, halo included, to one of two expanded tiles;
//   - convolves chunk s - 1 depthwise from the other expanded tile: a lane makes a patch's outputs for four channels in the
//   very
//     registers that an mma takes them from as A fragments;
//   - projects: from those registers (direct), or from fragments that another warp left in shared memory (then chunk s - 2),
//     so that warps can share a tile's output channels without convolving more than once.
// Only input pixels inside the image are expanded; the rest of the expanded tiles is set to zero once.
//
// Input pixels become A fragments once, as they come from memory. They lie in shared memory where every warp does all of the
// above. They are held in registers where some warps only expand and the others do the rest, so that neither needs the
// registers of the other.
//
// Packed weights: the projection's bias, then for each chunk the expand layer's B fragments and bias, the depthwise layer's
// taps and bias lane by lane, and the projection's B fragments. All fragments hold 16 depths (a lane's four are neighbours)
// and two tiles of eight columns, 16 bytes a lane. Tiles, forms and images all take the same packed weights.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/expand.cuh"
#include "cuda/tile_block/input.cuh"
#include "cuda/tile_block/project.cuh"
#include "cuda/tile_block/weights.cuh"

namespace mnv2::cuda {

// Calls body(step, weights) for every step. Its weights have come by then and the step before is done. Where there is a
// second buffer, the next step's weights are on their way.
template <class Tile, class Body>
__device__ __forceinline__ void for_each_step(const TileArguments& p, uint8_t* shared, const Body& body)
{
    const int steps = p.chunks + Tile::project_lag;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        const StepWeights<Tile> weights(p, shared, step), next(p, shared, step + 1);
        ptx::cp_async_wait<0>();
        ptx::block_barrier();
        if (Tile::weight_buffers > 1 && step + 1 < steps) next.fetch(p, step + 1);
        body(step, weights);
        if (Tile::weight_buffers == 1 && step + 1 < steps) {
            ptx::block_barrier();
            next.fetch(p, step + 1);
        }
    }
}

template <class Tile>
__device__ __forceinline__ void expand_step(const TileArguments& p, const Lane& lane, const InputUnits<Tile>& input, int step,
                                            const StepWeights<Tile>& weights, uint8_t* shared)
{
    if (step >= p.chunks) return;
    const uint32_t high = ptx::pack2<typename Tile::T>(p.high, p.high);
    const int live = p.expanded_channels - step * chunk_channels;
    uint8_t* const expanded = shared + step % 2 * p.expanded_bytes;
    input.for_each(p, lane, [&](int unit) { expand_unit<Tile>(p, lane, input, unit, weights, live, high, expanded); });
}

template <class Tile>
__device__ __forceinline__ void project_step(const TileArguments& p, const Lane& lane, const Part& part, int window, int step,
                                             const StepWeights<Tile>& weights, uint8_t* shared, ProjectSums<Tile>& sum)
{
    const uint32_t high = ptx::pack2<typename Tile::T>(p.high, p.high);
    const uint8_t* const expanded = shared + (step + 1) % 2 * p.expanded_bytes;
    if constexpr (Tile::direct) {
        if (step > 0) convolve_and_project<Tile>(p, lane, part, expanded + window, weights, high, sum);
    } else {
        if (step > 0 && step <= p.chunks)
            convolve_to_exchange<Tile>(p, lane, expanded, weights.depthwise(), high, exchange_of(p, shared, step - 1));
        if (step > 1) project_exchanged<Tile>(p, lane, part, exchange_of(p, shared, step), weights.project(), sum);
    }
}

template <class Tile>
__global__ void __launch_bounds__(32 * Tile::most_warps) tile_block_kernel(TileArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    const int thread = threadIdx.x;
    const Lane lane{thread / 32, thread % 32, thread % 32 / 4, thread % 4};
    const Region region = region_of<Tile>(p, blockIdx.x);
    StepWeights<Tile>(p, shared, 0).fetch(p, 0);
    zero_expanded(p, shared, 2);

    if constexpr (Tile::held)
        if (lane.warp >= p.workers) {
            const InputUnits<Tile> input(p, region, lane, shared);
            for_each_step<Tile>(p, shared, [&](int step, const StepWeights<Tile>& weights) {
                expand_step<Tile>(p, lane, input, step, weights, shared);
            });
            return;
        }
    const Part part = part_of<Tile>(p, lane);
    const int window = Tile::direct ? window_at<Tile>(p, lane, lane.warp * Tile::stack) : 0;
    float sum[Tile::row_tiles][2 * Tile::column_pairs][4] = {};
    if constexpr (Tile::held) {
        for_each_step<Tile>(p, shared, [&](int step, const StepWeights<Tile>& weights) {
            project_step<Tile>(p, lane, part, window, step, weights, shared, sum);
        });
    } else {
        const InputUnits<Tile> input(p, region, lane, shared);
        for_each_step<Tile>(p, shared, [&](int step, const StepWeights<Tile>& weights) {
            expand_step<Tile>(p, lane, input, step, weights, shared);
            project_step<Tile>(p, lane, part, window, step, weights, shared, sum);
        });
    }
    store_part<Tile>(p, region, lane, part, sum);
}

}  // namespace mnv2::cuda
