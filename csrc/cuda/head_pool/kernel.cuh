// The head with its pool: a 1x1 convolution, its activation and the mean over all pixels; the wide tensor stays in registers.
//
// Four images share the weights that come from L2: read once an image, they would cost more than the products
// (benchmarks/NOTES.md).
#pragma once

#include <cstdint>

#include "cuda/head_pool/mma.cuh"
#include "cuda/head_pool/scalar.cuh"

namespace mnv2::cuda {

template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1) head_pool_mma_kernel(HeadPoolArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, quad = lane % 4;
    const int warp_image = warp % Shape::image_sets * Shape::warp_images;
    const int rows_per_image = min(p.pixels, head_chunk_pixels);
    const uint8_t* const pixels = shared + (warp_image * rows_per_image + row) * p.row_bytes + quad * 8;
    const bool fits = p.pixels <= head_chunk_pixels && p.depth <= p.chunk_depth;
    const uint32_t* const fragments = p.packed + p.groups * head_group_channels;

    for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x) {
        const int64_t first_image = task / p.splits * Shape::images;
        const int begin = static_cast<int>(task % p.splits) * p.part_groups, end = min(begin + p.part_groups, p.groups);
        for (int first = begin; first < end; first += Shape::groups) {
            const int group = first + warp / Shape::image_sets;
            const bool active = group < end && first_image + warp_image < p.batch;
            HeadPooled<Shape> pooled = {};
            for (int pixel = 0; pixel < p.pixels; pixel += head_chunk_pixels) {
                HeadSums<Shape> sums;
                if (active) start_from_head_bias<Shape>(p, group, row, sums);
                for (int depth = 0; depth < p.depth; depth += p.chunk_depth) {
                    if (!fits || first == begin) {
                        __syncthreads();
                        read_head_pixels<Shape>(p, first_image, pixel, rows_per_image, depth, shared);
                        __syncthreads();
                    }
                    const int steps = min(p.chunk_depth, p.depth - depth) / head_step_depth;
                    const int64_t step = static_cast<int64_t>(group) * (p.depth / head_step_depth) + depth / head_step_depth;
                    if (active)
                        add_head_products<Shape>(p, pixels, rows_per_image, fragments + step * head_step_words, steps, lane,
                                                 sums);
                }
                if (active) pool_head_sums<Shape>(p, pixel + quad * 2, sums, pooled);
            }
            if (active) store_head_means<Shape>(p, first_image + warp_image, group, lane, pooled);
        }
    }
}

template <class Shape>
__global__ void __launch_bounds__(head_scalar_threads, 1) head_pool_scalar_kernel(HeadPoolArguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    for (int64_t task = blockIdx.x; task < p.tasks; task += gridDim.x) {
        const HeadScalarTask<Shape> t{p, reinterpret_cast<float*>(shared), task / p.splits * head_scalar_images,
                                      static_cast<int>(task % p.splits) * Shape::channels};
        fetch_head_inputs(t, 0);
        fetch_head_weights(t, 0);
        HeadScalarSums<Shape> sums = {}, totals = {};
        double pooled[Shape::thread_channels] = {};
#pragma unroll 1
        for (int step = 0; step < t.steps(); ++step) {
            ptx::cp_async_wait<0>();
            __syncthreads();
            if (step + 1 < t.steps()) {
                fetch_head_inputs(t, step + 1);
                fetch_head_weights(t, step + 1);
            }
            add_head_step<Shape>(t, step, sums);
            const int chunk = step % t.chunks;
            const bool is_last = chunk == t.chunks - 1;
            if (is_last || chunk % head_run_chunks == head_run_chunks - 1) move_sums(sums, totals);
            if (is_last) pool_head_totals<Shape>(t, step / t.chunks * head_chunk_pixels + t.first_pixel, totals, pooled);
        }
        store_head_pool<Shape>(t, pooled);
    }
}

}  // namespace mnv2::cuda
