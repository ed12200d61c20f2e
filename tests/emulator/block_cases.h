// Tests of inverted residuals on the host or, compiled by nvcc, on a GPU. The error against the block by its definition is at
// most twice the error of separate convolutions and BatchNorms that are each rounded to the tensors' type.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <vector>

#include "check.h"
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

struct Weights {
    Convolution expand, depthwise, project;
};

inline Weights random_weights(Random& random, const InvertedResidualParams& params, ScalarType type)
{
    Weights weights{random_convolution(random, params.expanded_channels, params.in_channels),
                    random_convolution(random, params.expanded_channels, kernel_taps),
                    random_convolution(random, params.out_channels, params.expanded_channels)};
    for (Convolution* layer : {&weights.expand, &weights.depthwise, &weights.project})
        for (float& weight : layer->weight) weight = static_cast<float>(round_to(type, weight));
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

// The block in double; with a type, as separate layers of that type compute it.
inline Image separate_block(const InvertedResidualParams& params, const Weights& weights, const Image& x,
                            std::optional<ScalarType> type)
{
    Image y = pointwise(x, only_weight(weights.expand), params.expanded_channels, Activation::none);
    normalise(y, weights.expand, params.activation, type);
    y = convolve(y, only_weight(weights.depthwise), params.expanded_channels, params.expanded_channels,
                 {params.stride, params.padding}, Activation::none);
    normalise(y, weights.depthwise, params.activation, type);
    y = pointwise(y, only_weight(weights.project), params.out_channels, Activation::none);
    normalise(y, weights.project, Activation::none, type);
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

// Pools the errors of all images and weights, as a single small one may be lucky.
// run(params, type, weights, x) gives the bytes of y.
template <class Run>
void check_accuracy(const Run& run, InvertedResidualParams params, ScalarType type, const Sizes& sizes)
{
    double fused = 0.0, separate = 0.0;
    for (const auto& [batch, height, width] : sizes) {
        params.batch = batch;
        params.height = height;
        params.width = width;
        Random random(static_cast<unsigned>(height * 31 + width));
        const Weights weights = random_weights(random, params, type);
        const Image x = random_image(random, params, type);
        const Image exact = separate_block(params, weights, x, std::nullopt);
        const Bytes got = run(params, type, weights, x);
        fused = std::max(fused, largest_error(got, exact, type));
        separate = std::max(separate, largest_error(encode_image(separate_block(params, weights, x, type), type), exact, type));
    }
    Scope scope("largest error ", fused, ", of separate layers ", separate);
    CHECK(fused <= 2.0 * separate);
}

}  // namespace mnv2::test
