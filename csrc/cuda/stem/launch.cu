#include "cuda/stem/kernel.cuh"

#include <type_traits>

#include "cuda/common/forms.cuh"
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
    arguments.type = x.dtype;
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
    arguments.epilogue = epilogue_of(params.activation);
    return arguments;
}

template <class Tile, auto kernel, int blocks_per_sm>
void run(const StemParams& params, const InputView& x, const void* packed, void* y, const Gpu& gpu, Stream stream)
{
    const StemArguments arguments = arguments_of(params, x, packed, y, Tile::rows);
    const auto blocks = static_cast<unsigned>(resident_blocks(gpu, blocks_per_sm, arguments.tiles));
    if (blocks > 0) launch_kernel(kernel, dim3(blocks), dim3(stem_threads), Tile::bytes, stream, arguments);
}

template <class Tile>
constexpr auto run_mma = run<Tile, stem_mma_kernel<Tile>, stem_mma_blocks_per_sm>;
template <class Tile>
constexpr auto run_scalar = run<Tile, stem_scalar_kernel<Tile>, stem_scalar_blocks_per_sm>;

// Large windows have many depths by few channels, so no kernel is compiled for less, and one for all types.
template <class X, int stride>
auto scalar_launch_of(const StemParams& params)
{
    if (params.kernel == 5) return run_scalar<StemScalarTile<void, StemScalarShape{5, stride, true}>>;
    if (params.kernel == 7) return run_scalar<StemScalarTile<void, StemScalarShape{7, stride, true}>>;
    return params.in_channels * kernel_taps >= long_depth ? run_scalar<StemScalarTile<X, StemScalarShape{3, stride, true}>>
                                                          : run_scalar<StemScalarTile<X, StemScalarShape{3, stride, false}>>;
}

// The function that launches the kernel of a layer.
template <class X>
auto launch_of(const StemParams& params, ScalarType packed_type)
{
    if constexpr (!std::is_same_v<X, float>)
        if (as_fragments(params, packed_type))
            return params.stride == 1 ? run_mma<StemMmaTile<X, 1>> : run_mma<StemMmaTile<X, 2>>;
    return params.stride == 1 ? scalar_launch_of<X, 1>(params) : scalar_launch_of<X, 2>(params);
}

}  // namespace

int64_t stem_bytes(const StemParams& params, ScalarType packed_type)
{
    return group_count(params) * group_words(params, packed_type) * static_cast<int64_t>(sizeof(uint32_t));
}

void pack_stem(const StemParams& params, ScalarType packed_type, const ConvolutionWeights& weights, void* packed, Stream stream)
{
    const LayerWeights layer{weights, params.out_channels, params.in_channels * params.taps()};
    const int64_t bytes = stem_bytes(params, packed_type);
    if (as_fragments(params, packed_type))
        visit_half(packed_type, [&]<class T>() { pack_words(StemFragmentWords<T>{layer}, bytes, packed, stream); });
    else
        pack_words(StemScalarWords{layer}, bytes, packed, stream);
}

void stem(const StemParams& params, ScalarType packed_type, const InputView& x, const void* packed, void* y, const Gpu& gpu,
          Stream stream)
{
    visit_type(x.dtype, [&]<class X>() { launch_of<X>(params, packed_type)(params, x, packed, y, gpu, stream); });
}

}  // namespace mnv2::cuda
