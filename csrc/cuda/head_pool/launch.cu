#include "cuda/head_pool/kernel.cuh"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/common/forms.cuh"
#include "cuda/common/sizes.h"
#include "cuda/head_pool/pack.cuh"
#include "cuda/launch.h"

namespace mnv2::cuda {
namespace {

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
    arguments.epilogue = epilogue_of(params.activation);
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

template <class Shape>
void run_scalar(const HeadPoolParams& params, const void* x, const void* packed, void* y, const Gpu&, Stream stream)
{
    HeadPoolArguments arguments = arguments_of(params, x, packed, y);
    arguments.splits = static_cast<int>(divide_up(params.out_channels, Shape::channels));
    arguments.tasks = image_sets(params, head_scalar_images) * arguments.splits;
    if (arguments.tasks == 0) return;
    launch_kernel(head_pool_scalar_kernel<Shape>, grid_of(arguments.tasks), dim3(head_scalar_threads), Shape::bytes, stream,
                  arguments);
}

// The function that launches the kernel of a layer. Without tensor cores a thread with four channels reads less from shared
// memory for each product; with one channel there are four times as many blocks.
template <class X>
auto launch_of(const HeadPoolParams& params, ScalarType packed_type, const Gpu& gpu)
{
    if constexpr (!std::is_same_v<X, float>)
        if (as_fragments(params, packed_type)) {
            using Large = HeadPoolMma<X, large_batch>;
            const int64_t blocks = image_sets(params, Large::images) * group_count(params) / Large::groups;
            return blocks < gpu.sm_count ? run_mma<HeadPoolMma<X, small_batch>> : run_mma<Large>;
        }
    const int64_t blocks = image_sets(params, head_scalar_images) * divide_up(params.out_channels, head_padded_channels);
    return blocks < gpu.sm_count ? run_scalar<HeadPoolScalar<X, 1>> : run_scalar<HeadPoolScalar<X, 4>>;
}

}  // namespace

int64_t head_pool_bytes(const HeadPoolParams& params, ScalarType packed_type)
{
    const int64_t words = as_fragments(params, packed_type)
                              ? group_count(params) * (head_group_channels + step_count(params) * head_step_words)
                              : (params.in_channels + 2) * round_up(params.out_channels, head_padded_channels);
    return words * static_cast<int64_t>(sizeof(uint32_t));
}

void pack_head_pool(const HeadPoolParams& params, ScalarType packed_type, const ConvolutionWeights& weights, void* packed,
                    Stream stream)
{
    const LayerWeights layer{weights, params.out_channels, params.in_channels};
    const int64_t bytes = head_pool_bytes(params, packed_type);
    if (as_fragments(params, packed_type))
        visit_half(packed_type, [&]<class T>() {
            pack_words(HeadFragmentWords<T>{layer, group_count(params), step_count(params)}, bytes, packed, stream);
        });
    else
        pack_words(HeadScalarWords{layer, round_up(params.out_channels, head_padded_channels)}, bytes, packed, stream);
}

void head_pool(const HeadPoolParams& params, ScalarType x_type, ScalarType packed_type, const void* x, const void* packed,
               void* y, const Gpu& gpu, Stream stream)
{
    visit_type(x_type, [&]<class X>() { launch_of<X>(params, packed_type, gpu)(params, x, packed, y, gpu, stream); });
}

}  // namespace mnv2::cuda
