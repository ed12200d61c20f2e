// Tests of inverted residuals on the host or, compiled by nvcc, on a GPU. The error against the block by its definition is at
// most twice the error of separate convolutions and BatchNorms that are each rounded to the tensors' type.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <vector>

#include "check.h"
#include "cuda/launch.h"
#include "emulator/block_kernels.h"
#include "emulator/blocks.h"
#include "emulator/device.h"
#include "numbers.h"
#include "reference.h"
#include "tensors.h"

namespace mnv2::test {

#if defined(__SANITIZE_THREAD__)
constexpr uint64_t schedules[] = {1};  // a race is reported under any, and each takes long
#else
constexpr uint64_t schedules[] = {1, 2, 3};
#endif

constexpr ScalarType half_types[] = {ScalarType::float16, ScalarType::bfloat16};

using Weights = BlockWeights;

inline Weights random_weights(Random& random, const InvertedResidualParams& params, ScalarType type)
{
    Weights weights{random_convolution(random, params.expanded_channels, params.in_channels),
                    random_convolution(random, params.expanded_channels, params.taps()),
                    random_convolution(random, params.out_channels, params.expanded_channels)};
    if (params.has_gate()) {
        weights.squeeze = random_convolution(random, params.squeezed_channels, params.expanded_channels);
        weights.excite = random_convolution(random, params.expanded_channels, params.squeezed_channels);
        weights.squeeze.scale.clear();
        weights.excite.scale.clear();
    }
    for (Convolution* layer : {&weights.expand, &weights.depthwise, &weights.project, &weights.squeeze, &weights.excite})
        *layer = rounded(*layer, type);
    return weights;
}

inline Image random_image(Random& random, const InvertedResidualParams& params, ScalarType type)
{
    Image image(params.batch, params.height, params.width, params.in_channels);
    std::normal_distribution<double> normal(0.2, 1.0);
    for (Bounded& value : image.at) value.value = round_to(type, normal(random));
    return image;
}

inline void round_image(Image& image, std::optional<ScalarType> type)
{
    if (!type) return;
    for (Bounded& value : image.at) value.value = round_to(*type, value.value);
}

// Scales a convolution's sums, adds the bias and activates; rounds after each step where a type is given.
inline void normalise(Image& sums, const Convolution& layer, Activation activation, std::optional<ScalarType> type)
{
    round_image(sums, type);
    for (size_t i = 0; i < sums.at.size(); ++i) {
        const size_t channel = i % static_cast<size_t>(sums.channels);
        const double scale = layer.scale.empty() ? 1.0 : layer.scale[channel];
        const double bias = layer.bias.empty() ? 0.0 : layer.bias[channel];
        sums.at[i].value = sums.at[i].value * scale + bias;
    }
    round_image(sums, type);
    for (Bounded& value : sums.at) value.value = activate(activation, value.value);
}

inline Convolution only_weight(const Convolution& layer)
{
    return {layer.weight, {}, {}};
}

// Multiplies each channel with its gate, in double; with a type, as separate layers of that type compute it.
inline void apply_separate_gate(const InvertedResidualParams& params, const Weights& weights, std::optional<ScalarType> type,
                                Image& x)
{
    Image factors = pooled(x);
    round_image(factors, type);
    factors = pointwise(factors, only_weight(weights.squeeze), params.squeezed_channels, Activation::none);
    normalise(factors, weights.squeeze, params.squeeze_activation, type);
    round_image(factors, type);
    factors = pointwise(factors, only_weight(weights.excite), x.channels, Activation::none);
    normalise(factors, weights.excite, Activation::none, type);
    for (Bounded& at : factors.at) at.value = excite(params.excite_activation, at.value);
    round_image(factors, type);
    const auto channels = static_cast<size_t>(x.channels), image = static_cast<size_t>(x.height * x.width) * channels;
    for (size_t i = 0; i < x.at.size(); ++i) x.at[i].value *= factors.at[i / image * channels + i % channels].value;
    round_image(x, type);
}

// The block in double; with a type, as separate layers of that type compute it.
inline Image separate_block(const InvertedResidualParams& params, const Weights& weights, const Image& x,
                            std::optional<ScalarType> type)
{
    Image y = x;
    if (params.has_expand) {
        y = pointwise(x, only_weight(weights.expand), params.expanded_channels, Activation::none);
        normalise(y, weights.expand, params.activation, type);
    }
    y = convolve(y, only_weight(weights.depthwise), params.expanded_channels, params.expanded_channels,
                 {params.kernel, params.stride, params.padding}, Activation::none);
    normalise(y, weights.depthwise, params.activation_behind_depthwise(), type);
    if (params.has_gate()) apply_separate_gate(params, weights, type, y);
    y = pointwise(y, only_weight(weights.project), params.out_channels, Activation::none);
    normalise(y, weights.project, params.project_activation, type);
    if (params.has_residual)
        for (size_t i = 0; i < y.at.size(); ++i) y.at[i].value += x.at[i].value;
    round_image(y, type);
    return y;
}

// Values as a tensor's bytes.
using Bytes = std::vector<uint8_t>;

inline Bytes encode_image(const Image& image, ScalarType type)
{
    Bytes bytes(image.at.size() * static_cast<size_t>(scalar_bytes(type)));
    for (size_t i = 0; i < image.at.size(); ++i) store_number(type, image.at[i].value, bytes.data(), static_cast<int64_t>(i));
    return bytes;
}

inline double largest_error(const Bytes& got, const Image& expected, ScalarType type)
{
    double largest = 0.0;
    for (size_t i = 0; i < expected.at.size(); ++i) {
        const double error = std::fabs(load_number(type, got.data(), static_cast<int64_t>(i)) - expected.at[i].value);
        if (!(error <= largest)) largest = std::isnan(error) ? INFINITY : error;
    }
    return largest;
}

using Sizes = std::vector<std::array<int64_t, 3>>;  // batch, height, width

const Sizes odd_sizes = {{3, 1, 1}, {2, 5, 7}, {1, 13, 11}, {1, 9, 16}, {2, 2, 3}};

// A block with its weights and images of its type.
struct BlockCase {
    InvertedResidualParams params;
    ScalarType type;
    Weights weights;
    Image x;

    BlockCase(const InvertedResidualParams& params, ScalarType type)
        : BlockCase(params, type, Random(static_cast<unsigned>(params.height * 31 + params.width)))
    {
    }

    BlockCase only_image(int64_t n) const
    {
        BlockCase one = *this;
        one.params.batch = 1;
        one.x = Image(1, x.height, x.width, x.channels);
        std::copy_n(x.at.begin() + n * static_cast<int64_t>(one.x.at.size()), one.x.at.size(), one.x.at.begin());
        return one;
    }

private:
    BlockCase(const InvertedResidualParams& params, ScalarType type, Random random)
        : params(params), type(type), weights(random_weights(random, params, type)), x(random_image(random, params, type))
    {
    }
};

// Packs by pack(expand, depthwise, project, packed) and runs launch(x, packed, y) on memory that kernels reach; returns y.
template <class Pack, class Launch>
Bytes run_on_device(const BlockCase& block, int64_t packed_bytes, const Pack& pack, const Launch& launch)
{
    const DeviceConvolution expand(block.weights.expand), depthwise(block.weights.depthwise), project(block.weights.project);
    const DeviceBuffer packed(static_cast<size_t>(packed_bytes)), input(encode_image(block.x, block.type)),
        output(static_cast<size_t>(output_bytes(block.params, block.type)));
    pack(expand.view(), depthwise.view(), project.view(), packed.data());
    launch(input.data(), packed.data(), output.data());
    return output.bytes();
}

// A kernel for half precision.
struct HalfKernel {
    decltype(&cuda::tile_block_bytes) packed_bytes;
    decltype(&cuda::pack_tile_block) pack;
    decltype(&tile_block) launch;

    Bytes run(const BlockCase& block, const cuda::Gpu& gpu, uint64_t schedule = schedules[0]) const
    {
        set_schedule(schedule);
        return run_on_device(
            block, packed_bytes(block.params, block.type),
            [&](const auto& expand, const auto& depthwise, const auto& project, void* packed) {
                pack(block.params, block.type, expand, depthwise, project, packed, nullptr);
            },
            [&](const void* from, const void* packed, void* y) {
                CHECK(launch(block.params, block.type, from, packed, y, gpu, nullptr));
            });
    }

    auto on(const cuda::Gpu& gpu) const
    {
        return [this, &gpu](const BlockCase& block) { return run(block, gpu); };
    }

    bool refuses(const InvertedResidualParams& params, ScalarType type, const cuda::Gpu& gpu) const
    {
        return packed_bytes(params, type) == 0 && !launch(params, type, nullptr, nullptr, nullptr, gpu, nullptr);
    }
};

constexpr HalfKernel register_kernel = {cuda::register_block_bytes, cuda::pack_register_block, register_block},
                     tile_kernel = {cuda::tile_block_bytes, cuda::pack_tile_block, tile_block},
                     cluster_kernel = {cuda::tile_block_bytes, cuda::pack_tile_block, cluster_block};

// What no kernel for half precision takes: another type, activations that it does not know, a block without expand.
inline void check_refusals(const HalfKernel& kernel, InvertedResidualParams params, const cuda::Gpu& gpu)
{
    params = at_size(params, {1, 1, 1});
    InvertedResidualParams linear = params, activated = params, bare = params;
    linear.activation = Activation::none;
    activated.project_activation = Activation::relu6;
    bare.has_expand = false;
    CHECK(kernel.refuses(params, ScalarType::float32, gpu));
    for (const InvertedResidualParams& other : {linear, activated, bare})
        CHECK(kernel.refuses(other, ScalarType::float16, gpu));
}

inline InvertedResidualParams with_other_options(InvertedResidualParams params, int64_t expanded_channels)
{
    params.has_residual = false;
    params.activation = Activation::relu;
    params.padding = {0, 0, 1, 1};
    params.expanded_channels = expanded_channels;
    return params;
}

// Pools the errors of all images and weights, as a single small one may be lucky. run(block) gives the bytes of y.
template <class Run>
void check_accuracy(const Run& run, const InvertedResidualParams& params, ScalarType type, const Sizes& sizes)
{
    Scope types(params.in_channels, " -> ", params.out_channels, " stride ", params.stride, ", ", name_of(type));
    double fused = 0.0, separate = 0.0;
    for (const auto& size : sizes) {
        const BlockCase block(at_size(params, size), type);
        const Image exact = separate_block(block.params, block.weights, block.x, std::nullopt);
        const Image layers = separate_block(block.params, block.weights, block.x, type);
        fused = std::max(fused, largest_error(run(block), exact, type));
        separate = std::max(separate, largest_error(encode_image(layers, type), exact, type));
    }
    Scope scope("largest error ", fused, ", of separate layers ", separate);
    CHECK(fused <= 2.0 * separate);
}

// Not a number in the middle of an image reaches the windows that hold it, and nothing else.
template <class Run>
void check_nan(const Run& run, InvertedResidualParams params, ScalarType type)
{
    params.has_residual = false;
    BlockCase block(at_size(params, {1, 9, 9}), type);
    block.x(0, 4, 5, 3).value = NAN;
    const Bytes y = run(block);
    for (int64_t i = 0; i < 9 * 9 * params.out_channels; ++i) {
        const int64_t row = i / params.out_channels / 9, column = i / params.out_channels % 9;
        const int64_t reach = most_padding(params.kernel);
        const bool near = std::abs(row - 4) <= reach && std::abs(column - 5) <= reach;
        CHECK_EQUAL(std::isnan(load_number(type, y.data(), i)), near);
    }
}

// Channels that only fill a chunk have weights of 0, and 0 times infinity is not a number.
template <class Run>
void check_infinity(const Run& run)
{
    InvertedResidualParams params = block_of(8, 8, 1, 33);
    params.has_residual = false;
    BlockCase block(at_size(params, {1, 5, 5}), ScalarType::float16);
    block.x(0, 2, 2, 1).value = INFINITY;
    const Bytes y = run(block);
    for (int64_t i = 0; i < 5 * 5 * params.out_channels; ++i)
        CHECK(std::isfinite(load_number(ScalarType::float16, y.data(), i)));
}

// Each image alone has the bits that it has in its batch.
template <class Run>
void check_images_alone(const Run& run, const BlockCase& block)
{
    Bytes apart;
    for (int64_t n = 0; n < block.params.batch; ++n) {
        const Bytes y = run(block.only_image(n));
        apart.insert(apart.end(), y.begin(), y.end());
    }
    CHECK(run(block) == apart);
}

// The same bits however a GPU cuts the block, and under any schedule. kernel.run(block, gpu, schedule) gives the bytes of y.
template <class Kernel>
void check_schedules(const Kernel& kernel, const BlockCase& block, const std::vector<cuda::Gpu>& gpus)
{
    Scope scope(block.params.in_channels, " -> ", block.params.out_channels);
    const Bytes first = kernel.run(block, gpus[0], schedules[0]);
    for (const cuda::Gpu& gpu : gpus)
        for (const uint64_t schedule : schedules) CHECK(kernel.run(block, gpu, schedule) == first);
}

}  // namespace mnv2::test
