#include "cuda/stem/kernel.cuh"

#include <algorithm>

#include "cuda/common/sizes.h"
#include "cuda/launch.h"
#include "cuda/stem/pack.cuh"

namespace mnv2::cuda {
namespace {

StemArguments arguments_of(const StemParams& params, const InputView& x, const void* packed, void* y, int rows)
{
    StemArguments arguments{};
    arguments.x = stem_input(params, x);
    arguments.packed = static_cast<const uint32_t*>(packed);
    arguments.y = y;
    arguments.in_channels = static_cast<int>(params.in_channels);
    arguments.out_channels = static_cast<int>(params.out_channels);
    arguments.groups = static_cast<int>(group_count(params));
    arguments.out_height = static_cast<int>(params.out_height());
    arguments.out_width = static_cast<int>(params.out_width());
    arguments.padding_top = params.padding.top;
    arguments.padding_left = params.padding.left;
    arguments.tile_rows = static_cast<int>(divide_up(params.out_height(), rows));
    arguments.tile_columns = static_cast<int>(divide_up(params.out_width(), stem_tile_columns));
    arguments.tiles = params.batch * arguments.tile_rows * static_cast<int64_t>(arguments.tile_columns);
    arguments.clamp = clamp_of(params.activation);
    return arguments;
}

// The number of blocks, which run until all tiles are made.
unsigned block_count(int64_t tiles, const Gpu& gpu, int64_t per_sm)
{
    return static_cast<unsigned>(std::min(tiles, gpu.sm_count * per_sm));
}

template <class T, int stride>
void run_mma(const StemParams& params, const InputView& x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    const StemArguments arguments = arguments_of(params, x, packed, y, stem_mma_rows);
    const unsigned blocks = block_count(arguments.tiles, gpu, stem_mma_blocks_per_sm);
    if (blocks == 0) return;
    launch_kernel(stem_mma_kernel<T, stride>, dim3(blocks), dim3(stem_threads), StemMmaTile<T, stride>::bytes, stream,
                  arguments);
}

template <class X, int stride, bool is_long>
void run_scalar(const StemParams& params, const InputView& x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    using Tile = StemScalarTile<stride, is_long>;
    const StemArguments arguments = arguments_of(params, x, packed, y, Tile::rows);
    const unsigned blocks = block_count(arguments.tiles, gpu, stem_scalar_blocks_per_sm);
    if (blocks == 0) return;
    launch_kernel(stem_scalar_kernel<X, stride, is_long>, dim3(blocks), dim3(stem_threads), Tile::bytes, stream, arguments);
}

using RunStem = void (*)(const StemParams&, const InputView&, const void*, void*, const Gpu&, Stream);

template <class X>
RunStem scalar_of(const StemParams& params)
{
    if (params.in_channels * kernel_taps >= long_depth)
        return params.stride == 1 ? run_scalar<X, 1, true> : run_scalar<X, 2, true>;
    return params.stride == 1 ? run_scalar<X, 1, false> : run_scalar<X, 2, false>;
}

template <class T>
RunStem half_of(const StemParams& params, ScalarType packed_type)
{
    if (!as_fragments(params, packed_type)) return scalar_of<T>(params);
    return params.stride == 1 ? run_mma<T, 1> : run_mma<T, 2>;
}

}  // namespace

int64_t stem_bytes(const StemParams& params, ScalarType packed_type)
{
    return group_count(params) * group_words(params, packed_type) * static_cast<int64_t>(sizeof(uint32_t));
}

void pack_stem(const StemParams& params, ScalarType packed_type, const ConvolutionWeights& weights, void* packed, Stream stream)
{
    const int64_t words = stem_bytes(params, packed_type) / static_cast<int64_t>(sizeof(uint32_t));
    if (!as_fragments(params, packed_type))
        pack_words(StemScalarWords{params.out_channels, params.in_channels * kernel_taps, weights}, words, packed, stream);
    else if (packed_type == ScalarType::float16)
        pack_words(StemFragmentWords<__half>{params.out_channels, weights}, words, packed, stream);
    else
        pack_words(StemFragmentWords<__nv_bfloat16>{params.out_channels, weights}, words, packed, stream);
}

void stem(const StemParams& params, ScalarType packed_type, const InputView& x, const void* packed, void* y, const Gpu& gpu,
          Stream stream)
{
    RunStem run = nullptr;
    switch (x.dtype) {
        case ScalarType::float32: run = scalar_of<float>(params); break;
        case ScalarType::float16: run = half_of<__half>(params, packed_type); break;
        case ScalarType::bfloat16: run = half_of<__nv_bfloat16>(params, packed_type); break;
    }
    run(params, x, packed, y, gpu, stream);
}

}  // namespace mnv2::cuda
