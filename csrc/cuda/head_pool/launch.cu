#include "cuda/head_pool/kernel.cuh"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/common/sizes.h"
#include "cuda/head_pool/pack.cuh"
#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

// For batches that fill the GPU: four images share the weights that come from L2. Small batches get as many blocks as possible.
template <class T>
using LargeBatch = HeadPoolMma<T, 2, 2, 8>;
template <class T>
using SmallBatch = HeadPoolMma<T, 1, 1, 2>;

HeadPoolArguments arguments_of(const HeadPoolParams& params, const void* x, const void* packed, void* y)
{
    const int64_t pixels = params.height * params.width;
    if (pixels > std::numeric_limits<int32_t>::max() - head_chunk_pixels)  // kernels count chunk by chunk in 32 bits
        throw std::runtime_error("an image has too many pixels to pool: " + std::to_string(pixels));
    HeadPoolArguments arguments{};
    arguments.x = x;
    arguments.packed = static_cast<const uint32_t*>(packed);
    arguments.y = y;
    arguments.batch = params.batch;
    arguments.pixels = static_cast<int>(pixels);
    arguments.in_channels = static_cast<int>(params.in_channels);
    arguments.out_channels = static_cast<int>(params.out_channels);
    arguments.clamp = clamp_of(params.activation);
    return arguments;
}

dim3 grid_of(int64_t tasks)
{
    return dim3(static_cast<unsigned>(std::min<int64_t>(tasks, std::numeric_limits<int32_t>::max())));
}

int64_t image_sets(const HeadPoolParams& params, int64_t images)
{
    return divide_up(params.batch, images);
}

// The number of parts of the channels with which all tasks end first. A block makes all channels in `passes` turns.
int64_t best_splits(int64_t sets, int64_t passes, int64_t sm_count)
{
    int64_t best = 1, least = std::numeric_limits<int64_t>::max();
    for (int64_t splits = 1; splits <= passes; ++splits) {
        const int64_t waves = divide_up(sets * splits, sm_count), turns = waves * divide_up(passes, splits);
        if (turns < least) least = turns, best = splits;
    }
    return best;
}

template <class Shape>
void run_mma(const HeadPoolParams& params, const void* x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    HeadPoolArguments arguments = arguments_of(params, x, packed, y);
    const int64_t sets = image_sets(params, Shape::images);
    const int64_t passes = divide_up(group_count(params), Shape::groups);
    const int64_t splits = best_splits(sets, passes, gpu.sm_count), part_passes = divide_up(passes, splits);
    arguments.groups = static_cast<int>(group_count(params));
    arguments.part_groups = static_cast<int>(part_passes) * Shape::groups;
    arguments.splits = static_cast<int>(divide_up(passes, part_passes));
    arguments.tasks = sets * arguments.splits;
    arguments.depth = static_cast<int>(round_up(params.in_channels, head_step_depth));
    const int rows = head_shared_rows<Shape>(arguments.pixels);
    arguments.chunk_depth = arguments.depth;
    while (rows * head_row_bytes(arguments.chunk_depth) > std::min(gpu.shared_bytes, max_shared_bytes))
        arguments.chunk_depth -= head_step_depth;
    arguments.row_bytes = head_row_bytes(arguments.chunk_depth);
    if (arguments.tasks == 0) return;
    launch_kernel(head_pool_mma_kernel<Shape>, grid_of(arguments.tasks), dim3(Shape::threads), rows * arguments.row_bytes,
                  stream, arguments);
}

template <class X, int thread_channels>
void run_scalar(const HeadPoolParams& params, const void* x, const void* packed, void* y, Stream stream)
{
    using Shape = HeadPoolScalar<thread_channels>;
    HeadPoolArguments arguments = arguments_of(params, x, packed, y);
    arguments.splits = static_cast<int>(divide_up(params.out_channels, Shape::channels));
    arguments.tasks = image_sets(params, head_scalar_images) * arguments.splits;
    if (arguments.tasks == 0) return;
    launch_kernel(head_pool_scalar_kernel<X, thread_channels>, grid_of(arguments.tasks), dim3(head_scalar_threads),
                  Shape::bytes, stream, arguments);
}

// With four channels a thread reads less from shared memory for each product; with one channel there are four times as many
// blocks.
template <class X>
void run_scalar(const HeadPoolParams& params, const void* x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    const int64_t blocks = image_sets(params, head_scalar_images) * divide_up(params.out_channels, head_padded_channels);
    if (blocks < gpu.sm_count)
        run_scalar<X, 1>(params, x, packed, y, stream);
    else
        run_scalar<X, 4>(params, x, packed, y, stream);
}

template <class T>
void run_half(const HeadPoolParams& params, ScalarType packed_type, const void* x, const void* packed, void* y, const Gpu& gpu,
              Stream stream)
{
    if (!as_fragments(params, packed_type)) return run_scalar<T>(params, x, packed, y, gpu, stream);
    const int64_t blocks = image_sets(params, LargeBatch<T>::images) * group_count(params) / LargeBatch<T>::groups;
    if (blocks < gpu.sm_count)
        run_mma<SmallBatch<T>>(params, x, packed, y, gpu, stream);
    else
        run_mma<LargeBatch<T>>(params, x, packed, y, gpu, stream);
}

}  // namespace

int64_t head_pool_bytes(const HeadPoolParams& params, ScalarType packed_type)
{
    return packed_words(params, packed_type) * static_cast<int64_t>(sizeof(uint32_t));
}

void pack_head_pool(const HeadPoolParams& params, ScalarType packed_type, const ConvolutionWeights& weights, void* packed,
                    Stream stream)
{
    const int64_t words = packed_words(params, packed_type), in = params.in_channels, out = params.out_channels;
    const int64_t groups = group_count(params), steps = divide_up(in, head_step_depth);
    if (!as_fragments(params, packed_type))
        pack_words(HeadScalarWords{in, out, round_up(out, head_padded_channels), weights}, words, packed, stream);
    else if (packed_type == ScalarType::float16)
        pack_words(HeadFragmentWords<__half>{in, out, groups, steps, weights}, words, packed, stream);
    else
        pack_words(HeadFragmentWords<__nv_bfloat16>{in, out, groups, steps, weights}, words, packed, stream);
}

void head_pool(const HeadPoolParams& params, ScalarType x_type, ScalarType packed_type, const void* x, const void* packed,
               void* y, const Gpu& gpu, Stream stream)
{
    switch (x_type) {
        case ScalarType::float32: return run_scalar<float>(params, x, packed, y, gpu, stream);
        case ScalarType::float16: return run_half<__half>(params, packed_type, x, packed, y, gpu, stream);
        case ScalarType::bfloat16: return run_half<__nv_bfloat16>(params, packed_type, x, packed, y, gpu, stream);
    }
}

}  // namespace mnv2::cuda
