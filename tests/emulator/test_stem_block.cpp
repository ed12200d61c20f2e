// The kernels of csrc/cuda/stem_block, on the host or, compiled by nvcc, on a GPU.
#include <cstdlib>

#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"
#include "emulator/layer_cases.h"

namespace mnv2::test {
namespace {

struct StemBlockParams {
    StemParams stem = layer_of<StemParams>(3, 32);
    InvertedResidualParams block = without_expand(32, 16, 1);
};

StemBlockParams with_size(StemBlockParams params, const std::array<int64_t, 3>& size)
{
    params.stem = at_size(params.stem, size);
    params.block = at_size(params.block, {size[0], params.stem.out_height(), params.stem.out_width()});
    return params;
}

struct StemBlockCase {
    Convolution stem, depthwise, project;
    Tensor x;

    StemBlockCase(Random& random, const StemBlockParams& params, ScalarType type, Layout layout)
        : stem(rounded(random_convolution(random, 32, 3 * kernel_taps), type)),
          depthwise(rounded(random_convolution(random, 32, kernel_taps), type)),
          project(rounded(random_convolution(random, 16, 32), type)),
          x(Tensor::random(random, type, layout, params.stem.batch, params.stem.height, params.stem.width, 3))
    {
    }
};

Image separate_block(const StemBlockParams& params, const StemBlockCase& from, std::optional<ScalarType> type)
{
    const InvertedResidualParams& block = params.block;
    Image y = separate_layers(params.stem, from.stem, from.x.image(), type);
    y = convolve(y, only_weight(from.depthwise), 32, 32, {block.kernel, block.stride, block.padding}, Activation::none);
    normalise(y, from.depthwise, block.activation, type);
    y = pointwise(y, only_weight(from.project), 16, Activation::none);
    normalise(y, from.project, Activation::none, type);
    return y;
}

// The tile is chosen by the number of multiprocessors.
constexpr cuda::Gpu one_sm{1, 80, 160 << 10}, many_sms{1000, 80, 160 << 10};

Bytes run_kernel(const StemBlockParams& params, const StemBlockCase& from, uint64_t schedule = schedules[0],
                 const cuda::Gpu& gpu = one_sm)
{
    set_schedule(schedule);
    const ScalarType type = from.x.dtype();
    const DeviceConvolution stem(from.stem), depthwise(from.depthwise), project(from.project);
    DeviceBuffer packed(static_cast<size_t>(cuda::stem_block_bytes(params.stem, params.block, type)));
    CHECK(cuda::pack_stem_block(params.stem, params.block, type, stem.view(), depthwise.view(), project.view(), packed.data(),
                                nullptr));
    const DeviceBuffer input(from.x.bytes());
    DeviceBuffer output(static_cast<size_t>(output_bytes(params.block, type)));
    CHECK(cuda::stem_block(params.stem, params.block, from.x.view(input.data()), packed.data(), output.data(), gpu, nullptr));
    return output.bytes();
}

// Pools the errors of all sizes.
void check_block(StemBlockParams params, ScalarType type, const Sizes& sizes, Layout layout = Layout::nhwc)
{
    double fused = 0.0, separate = 0.0;
    for (const auto& size : sizes) {
        params = with_size(params, size);
        Random random(static_cast<unsigned>(size[1] * 31 + size[2]));
        const StemBlockCase from(random, params, type, layout);
        const Image exact = separate_block(params, from, std::nullopt);
        fused = std::max(fused, largest_error(run_kernel(params, from), exact, type));
        separate = std::max(separate, largest_error(encode_image(separate_block(params, from, type), type), exact, type));
    }
    Scope scope(name_of(type), ": largest error ", fused, ", of separate layers ", separate);
    CHECK(fused <= 2.0 * separate);
}

TEST(both_types_and_strides_are_accurate)
{
    for (const ScalarType type : half_types)
        for (const int32_t stride : {1, 2}) {
            Scope scope("stride ", stride);
            StemBlockParams params;
            params.stem.stride = stride;
            check_block(params, type, odd_sizes);
            check_block(params, type, {{2, 31, 35}, {1, 60, 18}, {1, 65, 70}});
        }
}

// The same numbers give the same bits, however they lie in memory.
TEST(every_layout_is_read)
{
    for (const ScalarType type : half_types)
        for (const Layout layout : layouts)
            for (const std::array<int64_t, 3>& size : Sizes{{2, 7, 9}, {1, 12, 40}, {2, 16, 32}}) {
                Scope scope("layout ", static_cast<int>(layout), ", ", size[1], " x ", size[2]);
                const StemBlockParams params = with_size(StemBlockParams{}, size);
                Random random(5);
                StemBlockCase from(random, params, type, layout);
                const Bytes got = run_kernel(params, from);
                const Image image = from.x.image();
                from.x = Tensor(type, Layout::every_other_channel, size[0], size[1], size[2], 3);
                from.x.fill([&](int64_t n, int64_t y, int64_t x, int64_t c) { return image(n, y, x, c).value; });
                CHECK(got == run_kernel(params, from));
            }
}

TEST(options_are_honoured)
{
    for (const ScalarType type : half_types)
        for (const Activation activation : {Activation::relu, Activation::relu6})
            for (const Padding& padding : {Padding{0, 0, 0, 0}, Padding{0, 0, 1, 1}, Padding{1, 0, 0, 1}}) {
                StemBlockParams params;
                params.block.activation = activation;
                params.stem.padding = padding;
                check_block(params, type, {{1, 9, 8}, {2, 7, 38}, {1, 8, 40}}, Layout::nchw);
                params.block.padding = padding;
                check_block(params, type, {{1, 9, 8}, {2, 7, 38}, {1, 8, 40}});
            }
}

TEST(the_networks_own_size_is_accurate)
{
    check_block({}, ScalarType::float16, {{1, 224, 224}}, Layout::nchw);
}

TEST(an_empty_batch_launches_nothing)
{
    const StemBlockParams params = with_size(StemBlockParams{}, {0, 32, 32});
    for (const ScalarType type : half_types)
        CHECK(cuda::stem_block(params.stem, params.block, {nullptr, type, 0, 0, 0, 0}, nullptr, nullptr, small_gpu, nullptr));
}

TEST(every_schedule_and_tile_gives_the_same_bits)
{
    for (const ScalarType type : half_types) {
        const StemBlockParams params = with_size(StemBlockParams{}, {2, 62, 36});
        Random random(5);
        const StemBlockCase from(random, params, type, Layout::nchw);
        const Bytes first = run_kernel(params, from);
        for (const uint64_t schedule : schedules)
            for (const cuda::Gpu* gpu : {&one_sm, &many_sms}) CHECK(run_kernel(params, from, schedule, *gpu) == first);
    }
}

TEST(an_image_has_the_same_bits_in_every_batch)
{
    for (const ScalarType type : half_types) {
        const StemBlockParams params = with_size(StemBlockParams{}, {3, 60, 35}), single = with_size(params, {1, 60, 35});
        Random random(5);
        StemBlockCase from(random, params, type, Layout::nhwc);
        const Bytes all = run_kernel(params, from);
        from.x = only_image(from.x, 2);
        const Bytes one = run_kernel(single, from);
        CHECK(std::equal(one.begin(), one.end(), all.end() - static_cast<std::ptrdiff_t>(one.size())));
    }
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    for (const ScalarType type : half_types) {
        const StemBlockParams params = with_size(StemBlockParams{}, {1, 33, 40});
        Random random(3);
        StemBlockCase from(random, params, type, Layout::nchw);
        from.x.set(0, 12, 15, 0, NAN);  // in the windows of row 6 and columns 7 and 8
        const Bytes y = run_kernel(params, from);
        check_nans(y, params.block, type,
                   [](int64_t row, int64_t column) { return std::abs(row - 6) <= 1 && column >= 6 && column <= 9; });
    }
}

TEST(other_layers_are_refused)
{
    const auto refused = [](const StemBlockParams& params, ScalarType type) {
        return cuda::stem_block_bytes(params.stem, params.block, type) == 0 &&
               !cuda::stem_block(params.stem, params.block, {nullptr, type, 0, 0, 0, 0}, nullptr, nullptr, small_gpu, nullptr);
    };
    const StemBlockParams params = with_size(StemBlockParams{}, {1, 8, 8});
    CHECK(refused(params, ScalarType::float32));
    StemBlockParams grey = params, wide = params, other = params, strided = params, expanded = params, linear = params,
                    activated = params;
    grey.stem.in_channels = 1;
    wide.stem.out_channels = wide.block.in_channels = wide.block.expanded_channels = 64;
    other.block.out_channels = 24;
    strided.block.stride = 2;
    expanded.block.has_expand = true;
    linear.stem.activation = Activation::relu;
    activated.block.project_activation = Activation::relu6;
    for (const StemBlockParams& each : {grey, wide, other, strided, expanded, linear, activated})
        CHECK(refused(each, ScalarType::float16));
}

}  // namespace
}  // namespace mnv2::test
