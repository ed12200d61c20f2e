// An estimate of what a launch of general_block takes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/general_block/cut.h"
#include "cuda/gpu.h"

namespace mnv2::cuda {

// What an output of the depthwise convolution takes.
inline double depthwise_instructions(const InvertedResidualParams& params)
{
    return 2.0 * static_cast<double>(params.taps()) + 2.0;
}

// An estimate of the whole launch in cycles of a multiprocessor. It adds up the instructions of the products and of the
// depthwise convolution, four a cycle, or the products' accesses to shared memory, two cycles each; the waits at barriers; and
// the weights that no other block's work hides. A multiprocessor with few warps is taken to hide less of its latencies. The
// constants are not measured.
inline double cycles_of(const GeneralShape& shape, const InvertedResidualParams& params, const Cut& cut, int64_t shared_bytes,
                        const Gpu& gpu)
{
    constexpr double schedulers = 4.0, barrier_cycles = 150.0, warps_for_half = 3.0, bytes_per_cycle = 48.0;
    const double loads = shape.pixels / 4.0 + thread_quads;
    const double expand_instructions = 6.0 * shape.pixels * thread_quads * quad_channels;  // besides the products
    const double project_instructions = expand_instructions / 2.0;
    const double product_cycles = std::max((shape.pixels * thread_quads * quad_channels + loads) / schedulers,
                                           2.0 * loads);  // cycles that a warp takes for one depth
    constexpr int64_t reserved_bytes = 1 << 10;           // CUDA takes them of each block

    const int64_t per_multiprocessor = divide_up(block_count(params, cut), gpu.sm_count);
    const int64_t fitting = (gpu.shared_bytes + reserved_bytes) / (shared_bytes + reserved_bytes);
    const int64_t resident = std::min({int64_t{shape.blocks_per_sm}, fitting, per_multiprocessor});
    const auto turns = [&](int64_t count) {  // tasks that a warp takes in turn; a lone block leaves schedulers idle
        return static_cast<double>(resident == 1 ? round_up(count, 4) : count);
    };
    const Halo halo = halo_of(params, cut);
    const int64_t depth = params.has_expand ? round_up(params.in_channels, quad_channels) : 0;
    const int64_t columns = std::min(round_up(params.out_channels, chunk_channels), cut.slice_channels);
    const int64_t parts = columns / chunk_channels;
    const int64_t planes = std::min(cut.planes, chunk_count(params));
    const double expand = turns(divide_up(halo.inputs, shape.warp_pixels()) * planes) *
                          (static_cast<double>(depth) * product_cycles + expand_instructions / schedulers);
    const double depthwise = turns(cut.images * cut.tile_width * planes) * static_cast<double>(cut.tile_height) *
                             depthwise_instructions(params) / schedulers;
    const int64_t project_tasks = divide_up(cut.pixels(), shape.warp_pixels()) * planes;
    const double project = (shape.spread ? turns(project_tasks * parts) : turns(project_tasks) * static_cast<double>(parts)) *
                           (chunk_channels * product_cycles + project_instructions / schedulers);
    const double barriers = (3.0 + shape.spread) * barrier_cycles * static_cast<double>(slab_count(params));
    const double weights =
        static_cast<double>(planes * chunk_channels * (depth + depthwise_rows_of(params.kernel) + columns)) * sizeof(float);
    const double step = expand + depthwise + project + barriers + (resident == 1 ? weights / bytes_per_cycle : 0.0);
    const auto warps = static_cast<double>(resident * shape.warps);
    return static_cast<double>(per_multiprocessor * divide_up(chunk_count(params), planes)) * step * (warps + warps_for_half) /
           warps;
}

}  // namespace mnv2::cuda
