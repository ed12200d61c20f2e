// The stem and the head on the host or, compiled by nvcc, on a GPU, by the rule of block_cases.h.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "check.h"
#include "cuda/launch.h"
#include "emulator/block_cases.h"
#include "emulator/device.h"
#include "numbers.h"
#include "reference.h"
#include "shapes.h"
#include "tensors.h"

namespace mnv2::test {

constexpr cuda::Gpu small_gpu{2, 80, 160 << 10};  // few multiprocessors: a thread block takes several tiles

// The tensors' type and the packed weights' type.
constexpr std::pair<ScalarType, ScalarType> type_pairs[] = {
    {ScalarType::float32, ScalarType::float32},  {ScalarType::float16, ScalarType::float16},
    {ScalarType::float16, ScalarType::float32},  {ScalarType::bfloat16, ScalarType::bfloat16},
    {ScalarType::bfloat16, ScalarType::float32},
};

inline int64_t depth_of(const StemParams& params)
{
    return params.in_channels * params.taps();
}

inline int64_t depth_of(const HeadPoolParams& params)
{
    return params.in_channels;
}

inline int64_t outputs_of(const StemParams& params)
{
    return params.batch * params.out_height() * params.out_width() * params.out_channels;
}

inline int64_t outputs_of(const HeadPoolParams& params)
{
    return params.batch * params.out_channels;
}

// The weights and an input of a layer; the numbers of both have the tensors' type.
struct LayerCase {
    Convolution layer;
    Tensor x;

    template <class Params>
    LayerCase(Random& random, const Params& params, ScalarType type, Layout layout)
        : layer(rounded(random_convolution(random, params.out_channels, depth_of(params)), type)),
          x(Tensor::random(random, type, layout, params.batch, params.height, params.width, params.in_channels))
    {
    }
};

// The stem in double; with a type, as separate layers of that type compute it.
inline Image separate_layers(const StemParams& params, const Convolution& layer, const Image& x, std::optional<ScalarType> type)
{
    Image y = convolve(x, only_weight(layer), params.out_channels, 1, {params.kernel, params.stride, params.padding},
                       Activation::none);
    normalise(y, layer, params.activation, type);
    return y;
}

inline Image separate_layers(const HeadPoolParams& params, const Convolution& layer, const Image& x,
                             std::optional<ScalarType> type)
{
    Image wide = pointwise(x, only_weight(layer), params.out_channels, Activation::none);
    normalise(wide, layer, params.activation, type);
    Image y(x.batch, 1, 1, params.out_channels);
    const auto pixels = static_cast<double>(x.height * x.width);
    for (size_t i = 0; i < wide.at.size(); ++i) {
        const size_t channel = i % static_cast<size_t>(params.out_channels);
        const size_t image = i / static_cast<size_t>(x.height * x.width * params.out_channels);
        y.at[image * static_cast<size_t>(params.out_channels) + channel].value += wide.at[i].value / pixels;
    }
    round_image(y, type);
    return y;
}

// With the error that float32 arithmetic may have.
inline Image bounded_layer(const StemParams& params, const Convolution& layer, const Image& x)
{
    return stem(params, x, layer);
}

inline Image bounded_layer(const HeadPoolParams& params, const Convolution& layer, const Image& x)
{
    return head_pool(params, x, layer, {});
}

// Image n of a tensor as one by itself.
inline Tensor only_image(const Tensor& x, int64_t n)
{
    const Image images = x.image();
    Tensor one(x.dtype(), Layout::nhwc, 1, images.height, images.width, images.channels);
    one.fill([&](int64_t, int64_t y, int64_t column, int64_t c) { return images(n, y, column, c).value; });
    return one;
}

// Results of an image that are not a number: is_near(row, column) says where they should be.
template <class Params, class Near>
void check_nans(const Bytes& y, const Params& params, ScalarType type, const Near& is_near)
{
    for (int64_t i = 0; i < params.out_height() * params.out_width() * params.out_channels; ++i) {
        const int64_t pixel = i / params.out_channels, row = pixel / params.out_width(), column = pixel % params.out_width();
        CHECK_EQUAL(std::isnan(load_number(type, y.data(), i)), is_near(row, column));
    }
}

inline void check_bounded(const Bytes& got, const Image& expected, ScalarType type)
{
    for (size_t i = 0; i < expected.at.size(); ++i) {
        const double value = load_number(type, got.data(), static_cast<int64_t>(i));
        Scope scope("output ", i, ": ", value, " for ", expected.at[i].value);
        CHECK(agrees(value, expected.at[i], type));
    }
}

// Pools the errors of all sizes. run(params, packed_type, layer, x) gives the bytes of y.
template <class Run, class Params>
void check_layer(const Run& run, Params params, ScalarType type, ScalarType packed_type, const Sizes& sizes,
                 Layout layout = Layout::nhwc)
{
    Scope types(params.in_channels, " -> ", params.out_channels, ", ", name_of(type), " by ", name_of(packed_type));
    double fused = 0.0, separate = 0.0;
    for (const auto& size : sizes) {
        params = at_size(params, size);
        Scope scope("images of ", params.height, " x ", params.width);
        Random random(static_cast<unsigned>(params.height * 31 + params.width));
        const LayerCase layer(random, params, type, layout);
        const Image x = layer.x.image(), exact = separate_layers(params, layer.layer, x, std::nullopt);
        const Bytes got = run(params, packed_type, layer.layer, layer.x);
        fused = std::max(fused, largest_error(got, exact, type));
        const Image layers = separate_layers(params, layer.layer, x, type);
        separate = std::max(separate, largest_error(encode_image(layers, type), exact, type));
        if (packed_type == ScalarType::float32) check_bounded(got, bounded_layer(params, layer.layer, x), type);
    }
    Scope scope("largest error ", fused, ", of separate layers ", separate);
    if (type != ScalarType::float32) CHECK(fused <= 2.0 * separate);  // float32's layers have no error but the last rounding
}

}  // namespace mnv2::test
