// int8 layers by plain loops over (height, width, channels), to the bit what the kernels have to give.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/block.h"
#include "cpu/int8/packing.h"

namespace mnv2::test {

struct ByteImage {
    int64_t height, width, channels;
    std::vector<uint8_t> at;

    ByteImage(int64_t height_, int64_t width_, int64_t channels_)
        : height(height_), width(width_), channels(channels_), at(static_cast<size_t>(height_ * width_ * channels_))
    {
    }
    uint8_t& value(int64_t row, int64_t column, int64_t channel)
    {
        return at[static_cast<size_t>((row * width + column) * channels + channel)];
    }
    uint8_t value(int64_t row, int64_t column, int64_t channel) const
    {
        return at[static_cast<size_t>((row * width + column) * channels + channel)];
    }
};

struct Int8Convolution {
    std::vector<int8_t> weight;
    std::vector<float> multiplier, bias, shortcut;

    cpu::int8::ConvolutionWeights view() const
    {
        return {weight.data(), multiplier.data(), bias.data(), shortcut.empty() ? nullptr : shortcut.data()};
    }
};

// A square kernel; groups of inputs that all outputs see, or one each.
struct Int8Window {
    int64_t kernel = 1;
    int32_t stride = 1;
    Padding padding{0, 0, 0, 0};
    bool is_depthwise = false;
    std::vector<uint8_t> outside;  // a byte for each channel; none: 0
};

inline uint8_t rounded_byte(float y)
{
    return static_cast<uint8_t>(std::min(255.0f, std::max(0.0f, std::nearbyintf(y))));
}

inline int32_t window_sum(const ByteImage& x, const Int8Convolution& conv, const Int8Window& window, int64_t row,
                          int64_t column, int64_t out)
{
    const int64_t inputs = window.is_depthwise ? 1 : x.channels, taps = window.kernel * window.kernel;
    int32_t sum = 0;
    for (int64_t i = 0; i < inputs; ++i)
        for (int64_t tap = 0; tap < taps; ++tap) {
            const int64_t in = window.is_depthwise ? out : i;
            const int64_t r = row * window.stride - window.padding.top + tap / window.kernel;
            const int64_t c = column * window.stride - window.padding.left + tap % window.kernel;
            const bool is_inside = r >= 0 && c >= 0 && r < x.height && c < x.width;
            const int32_t outside = window.outside.empty() ? 0 : window.outside[static_cast<size_t>(in)];
            const int32_t value = is_inside ? x.value(r, c, in) : outside;
            sum += value * conv.weight[static_cast<size_t>((out * inputs + i) * taps + tap)];
        }
    return sum;
}

inline float scaled_sum(const Int8Convolution& conv, int32_t sum, int64_t out)
{
    const auto index = static_cast<size_t>(out);
    return std::fmaf(static_cast<float>(sum), conv.multiplier[index], conv.bias[index]);
}

inline ByteImage convolve(const ByteImage& x, const Int8Convolution& conv, const Int8Window& window,
                          const ByteImage* shortcut = nullptr)
{
    const auto channels = static_cast<int64_t>(conv.multiplier.size());
    const auto size = [&](int64_t input, int32_t before, int32_t after) {
        return (input + before + after - window.kernel) / window.stride + 1;
    };
    ByteImage y(size(x.height, window.padding.top, window.padding.bottom),
                size(x.width, window.padding.left, window.padding.right), channels);
    for (int64_t row = 0; row < y.height; ++row)
        for (int64_t column = 0; column < y.width; ++column)
            for (int64_t out = 0; out < channels; ++out) {
                float value = scaled_sum(conv, window_sum(x, conv, window, row, column, out), out);
                if (shortcut)
                    value = std::fmaf(shortcut->value(row, column, out), conv.shortcut[static_cast<size_t>(out)], value);
                y.value(row, column, out) = rounded_byte(value);
            }
    return y;
}

struct Int8Block {
    Int8Convolution expand, depthwise, project;
};

inline ByteImage reference(const InvertedResidualParams& params, const ByteImage& x, const Int8Block& weights)
{
    const ByteImage expanded = params.has_expand ? convolve(x, weights.expand, {}) : x;
    const Int8Window window{
        .kernel = kernel_size, .stride = params.stride, .padding = params.padding, .is_depthwise = true, .outside = {}};
    const ByteImage depthwise_out = convolve(expanded, weights.depthwise, window);
    return convolve(depthwise_out, weights.project, {}, params.has_residual ? &x : nullptr);
}

struct Int8Stem {
    Int8Convolution convolution;
    std::vector<uint8_t> outside;
};

inline ByteImage reference(const StemParams& params, const ByteImage& x, const Int8Stem& weights)
{
    const Int8Window window{.kernel = kernel_size,
                            .stride = params.stride,
                            .padding = params.padding,
                            .is_depthwise = false,
                            .outside = weights.outside};
    return convolve(x, weights.convolution, window);
}

struct Int8Head {
    Int8Convolution convolution;
    float pool;
};

inline ByteImage reference(const HeadPoolParams& params, const ByteImage& x, const Int8Head& weights)
{
    const ByteImage head = convolve(x, weights.convolution, {});
    ByteImage pooled(1, 1, params.out_channels);
    for (int64_t channel = 0; channel < params.out_channels; ++channel) {
        int32_t sum = 0;
        for (int64_t row = 0; row < x.height; ++row)
            for (int64_t column = 0; column < x.width; ++column) sum += head.value(row, column, channel);
        pooled.value(0, 0, channel) =
            rounded_byte(static_cast<float>(sum) * (weights.pool / static_cast<float>(x.height * x.width)));
    }
    return pooled;
}

inline std::vector<float> reference(const LinearParams& params, const ByteImage& x, const Int8Convolution& weights)
{
    std::vector<float> y;
    for (int64_t out = 0; out < params.out_features; ++out)
        y.push_back(scaled_sum(weights, window_sum(x, weights, {}, 0, 0, out), out));
    return y;
}

}  // namespace mnv2::test
