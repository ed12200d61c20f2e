// The three operators by their definitions: loops over doubles, and beside each value the bound that float32 arithmetic must
// keep.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/block.h"
#include "core/packing.h"
#include "numbers.h"

namespace mnv2::test {

// float32 arithmetic in any order of the code under test ends within error of value.
struct Bounded {
    double value = 0.0, error = 0.0;
};

constexpr double float_step = 0x1p-24;        // the relative error of one rounding
constexpr double least_float = 0x1p-149;      // what underflow may lose
constexpr double least_silu = 0x1p-121;       // where exp(-x) is no float32, silu is zero
constexpr int64_t longest_run = 96;           // depths in a row that the accurate arithmetic adds up
constexpr int64_t least_depth_in_runs = 192;  // sums of this depth and deeper are cut into runs

// Images in the order (image, row, column, channel).
struct Image {
    int64_t batch = 0, height = 0, width = 0, channels = 0;
    std::vector<Bounded> at;

    Image(int64_t batch, int64_t height, int64_t width, int64_t channels)
        : batch(batch),
          height(height),
          width(width),
          channels(channels),
          at(static_cast<size_t>(batch * height * width * channels))
    {
    }
    int64_t pixels() const { return batch * height * width; }
    Bounded& operator()(int64_t n, int64_t y, int64_t x, int64_t c) { return at[index(n, y, x, c)]; }
    const Bounded& operator()(int64_t n, int64_t y, int64_t x, int64_t c) const { return at[index(n, y, x, c)]; }

private:
    size_t index(int64_t n, int64_t y, int64_t x, int64_t c) const
    {
        return static_cast<size_t>(((n * height + y) * width + x) * channels + c);
    }
};

// One convolution's tensors as torch lays them out; scale and bias may be empty.
struct Convolution {
    std::vector<float> weight, scale, bias;

    ConvolutionWeights view() const
    {
        return {weight.data(), scale.empty() ? nullptr : scale.data(), bias.empty() ? nullptr : bias.data()};
    }
};

inline Convolution rounded(Convolution layer, ScalarType type)
{
    for (float& weight : layer.weight) weight = static_cast<float>(round_to(type, weight));
    return layer;
}

// Values as a type holds them: their error grows by half of the last digit, or by half of the least number.
inline void store_as(ScalarType type, Image& image)
{
    if (type == ScalarType::float32) return;
    const Format format = format_of(type);
    for (Bounded& at : image.at) {
        if (!std::isfinite(at.value)) continue;
        at.error += std::ldexp(std::fabs(at.value) + at.error, -format.fraction_bits - 1) +
                    std::ldexp(1.0, format.least_exponent - format.fraction_bits - 1);
    }
}

constexpr int64_t longest_half_run = 16;  // products in a row that are added up in float16
constexpr double half_step = 0x1p-11;     // the relative error of a rounding in float16
constexpr double least_half = 0x1p-24;    // what it may lose by underflow

// A sum of products whose terms may be added in any order of runs. bfloat16 products are added in float32 without
// runs, each twice as roughly as IEEE asks; float16 products are added in float16.
class Dot {
public:
    void add(double weight, const Bounded& x)
    {
        value_ += weight * x.value;
        magnitude_ += std::fabs(weight * x.value);
        error_ += std::fabs(weight) * x.error;
        ++terms_;
    }

    // stored: the type of what is multiplied.
    Bounded result(ScalarType stored = ScalarType::float32) const
    {
        const auto terms = static_cast<double>(terms_);
        if (stored == ScalarType::bfloat16)
            return {value_, error_ + 2 * (terms + 2) * float_step * (magnitude_ + error_) + terms * 0x1p-126};
        if (stored == ScalarType::float16) {
            const double in_runs = static_cast<double>(std::min(terms_, longest_half_run) + 2) * half_step;
            return {value_, error_ + (in_runs + terms * float_step) * (magnitude_ + error_) + terms * least_half};
        }
        const int64_t run = terms_ < least_depth_in_runs ? terms_ : longest_run + (terms_ + longest_run - 1) / longest_run;
        const double rounding = static_cast<double>(run + 2) * float_step;
        return {value_, error_ + rounding * (magnitude_ + error_) + static_cast<double>(terms_) * least_float};
    }

private:
    double value_ = 0.0, magnitude_ = 0.0, error_ = 0.0;
    int64_t terms_ = 0;
};

inline double activate(Activation activation, double x)
{
    if (activation == Activation::hardswish) return x * std::clamp(x + 3, 0.0, 6.0) / 6;
    if (activation == Activation::silu) return x / (1 + std::exp(-x));
    const double low = activation == Activation::none ? -INFINITY : 0.0;
    const double high = activation == Activation::relu6 ? 6.0 : INFINITY;
    return x < low ? low : x > high ? high : x;  // leaves NaN alone
}

// The error of an activation's result. Curves are steeper than 1 and round by themselves, silu by up to two units in the last
// place; hardswish may lose what x + 3 is rounded by.
inline double activation_error(Activation activation, double x, double error)
{
    const double y = std::fabs(activate(activation, x));
    switch (curve_of(activation)) {
        case Curve::hardswish: return 1.5 * error + 4 * float_step * (std::fabs(x) + y);
        case Curve::silu: return 1.1 * error + 4 * float_step * y + least_silu;
        case Curve::none: break;
    }
    return error;
}

// Activation of sum * scale + bias. Where NaN or infinity comes out or goes in, nothing is left to chance.
inline Bounded finish(const Bounded& sum, const Convolution& layer, int64_t channel, Activation activation)
{
    const auto c = static_cast<size_t>(channel);
    const double scale = layer.scale.empty() ? 1.0 : layer.scale[c], bias = layer.bias.empty() ? 0.0 : layer.bias[c];
    const double scaled = sum.value * scale, value = scaled + bias;
    if (!std::isfinite(value)) return {activate(activation, value), 0.0};
    const double error = std::fabs(scale) * sum.error;
    const double rounded = error + 2 * float_step * (std::fabs(scaled) + std::fabs(value) + error) + least_float;
    return {activate(activation, value), activation_error(activation, value, rounded)};
}

inline Image pointwise(const Image& x, const Convolution& layer, int64_t out_channels, Activation activation,
                       ScalarType stored = ScalarType::float32)
{
    Image y(x.batch, x.height, x.width, out_channels);
    const auto depth = static_cast<size_t>(x.channels);
    for (size_t pixel = 0; pixel < static_cast<size_t>(x.pixels()); ++pixel)
        for (size_t o = 0; o < static_cast<size_t>(out_channels); ++o) {
            Dot dot;
            for (size_t k = 0; k < depth; ++k) dot.add(layer.weight[o * depth + k], x.at[pixel * depth + k]);
            y.at[pixel * static_cast<size_t>(out_channels) + o] =
                finish(dot.result(stored), layer, static_cast<int64_t>(o), activation);
        }
    return y;
}

struct Window {
    int64_t kernel;
    int32_t stride;
    Padding padding;
};

// Counts the windows that fit.
inline int64_t count_windows(int64_t size, int32_t before, int32_t after, const Window& window)
{
    int64_t count = 0;
    while (count * window.stride + window.kernel <= before + size + after) ++count;
    return count;
}

// Convolution in groups, as torch defines them.
inline Image convolve(const Image& x, const Convolution& layer, int64_t out_channels, int64_t groups, const Window& window,
                      Activation activation)
{
    const Padding& padding = window.padding;
    const int64_t in_per_group = x.channels / groups, out_per_group = out_channels / groups;
    const int64_t kernel = window.kernel;
    Image y(x.batch, count_windows(x.height, padding.top, padding.bottom, window),
            count_windows(x.width, padding.left, padding.right, window), out_channels);
    const auto sum_window = [&](int64_t n, int64_t row, int64_t column, int64_t o) {
        Dot dot;
        for (int64_t i = 0; i < in_per_group; ++i)
            for (int64_t ky = 0; ky < kernel; ++ky)
                for (int64_t kx = 0; kx < kernel; ++kx) {
                    const int64_t from_y = row * window.stride + ky - padding.top;
                    const int64_t from_x = column * window.stride + kx - padding.left;
                    if (from_y < 0 || from_y >= x.height || from_x < 0 || from_x >= x.width) continue;
                    const int64_t tap = ((o * in_per_group + i) * kernel + ky) * kernel + kx;
                    dot.add(layer.weight[static_cast<size_t>(tap)], x(n, from_y, from_x, o / out_per_group * in_per_group + i));
                }
        return dot.result();
    };
    for (int64_t n = 0; n < y.batch; ++n)
        for (int64_t row = 0; row < y.height; ++row)
            for (int64_t column = 0; column < y.width; ++column)
                for (int64_t o = 0; o < out_channels; ++o)
                    y(n, row, column, o) = finish(sum_window(n, row, column, o), layer, o, activation);
    return y;
}

// Means of all pixels.
inline Image pooled(const Image& x)
{
    Image y(x.batch, 1, 1, x.channels);
    const auto pixels = static_cast<double>(x.height * x.width);
    for (int64_t n = 0; n < x.batch; ++n)
        for (int64_t c = 0; c < x.channels; ++c) {
            Bounded& mean = y(n, 0, 0, c);
            double magnitude = 0.0;
            for (int64_t row = 0; row < x.height; ++row)
                for (int64_t column = 0; column < x.width; ++column) {
                    const Bounded& from = x(n, row, column, c);
                    mean.value += from.value / pixels;
                    mean.error += from.error / pixels;
                    magnitude += std::fabs(from.value) / pixels;
                }
            mean.error += (pixels + 2) * float_step * (magnitude + mean.error) + least_float;
        }
    return y;
}

inline void add_shortcut(const Image& x, Image& y)
{
    for (size_t i = 0; i < y.at.size(); ++i) {
        y.at[i].value += x.at[i].value;
        y.at[i].error += float_step * (std::fabs(y.at[i].value) + y.at[i].error);
    }
}

struct BlockWeights {
    Convolution expand, depthwise, project;
    Convolution squeeze{}, excite{};  // of a gate

    BlockConvolutions views() const { return {expand.view(), depthwise.view(), project.view(), squeeze.view(), excite.view()}; }
};

inline double excite(GateActivation activation, double x)
{
    return activation == GateActivation::sigmoid ? 1 / (1 + std::exp(-x)) : std::clamp(x + 3, 0.0, 6.0) / 6;
}

// Multiplies each channel with its gate.
inline void apply_gate(const InvertedResidualParams& params, const BlockWeights& weights, ScalarType stored, Image& x)
{
    Image means = pooled(x);
    store_as(stored, means);
    Image squeezed = pointwise(means, weights.squeeze, params.squeezed_channels, params.squeeze_activation, stored);
    store_as(stored, squeezed);
    const Image excited = pointwise(squeezed, weights.excite, x.channels, Activation::none, stored);
    for (int64_t n = 0; n < x.batch; ++n)
        for (int64_t row = 0; row < x.height; ++row)
            for (int64_t column = 0; column < x.width; ++column)
                for (int64_t c = 0; c < x.channels; ++c) {
                    const Bounded& from = excited(n, 0, 0, c);
                    const double factor = excite(params.excite_activation, from.value);
                    const double steepness = 0.25;  // of sigmoid, the steeper one
                    const double error = steepness * from.error + 4 * float_step * (1 + std::fabs(from.value));
                    Bounded& at = x(n, row, column, c);
                    at.error = at.error * (factor + error) + std::fabs(at.value) * (error + float_step) + least_float;
                    at.value *= factor;
                }
    store_as(stored, x);
}

inline Image inverted_residual(const InvertedResidualParams& params, const Image& x, const BlockWeights& weights,
                               ScalarType stored)
{
    const Image expanded =
        params.has_expand ? pointwise(x, weights.expand, params.expanded_channels, params.activation, stored) : x;
    Image depthwise_out = convolve(expanded, weights.depthwise, params.expanded_channels, params.expanded_channels,
                                   {params.kernel, params.stride, params.padding}, params.activation_behind_depthwise());
    store_as(stored, depthwise_out);
    if (params.has_gate()) apply_gate(params, weights, stored, depthwise_out);
    Image y = pointwise(depthwise_out, weights.project, params.out_channels, params.project_activation, stored);
    if (params.has_residual) add_shortcut(x, y);
    return y;
}

inline Image stem(const StemParams& params, const Image& x, const Convolution& layer)
{
    return convolve(x, layer, params.out_channels, 1, {params.kernel, params.stride, params.padding}, params.activation);
}

inline Image head_pool(const HeadPoolParams& params, const Image& x, const Convolution& layer, ScalarType stored)
{
    return pooled(pointwise(x, layer, params.out_channels, params.activation, stored));
}

// Whether a result of that type may be what float32 arithmetic and one rounding make of the bounded value.
inline bool agrees(double got, const Bounded& expected, ScalarType type)
{
    if (std::isnan(expected.value)) return std::isnan(got);
    if (std::isinf(expected.value)) return got == expected.value;
    if (type == ScalarType::float32) return std::fabs(got - expected.value) <= expected.error;
    return round_to(type, expected.value - expected.error) <= got && got <= round_to(type, expected.value + expected.error);
}

}  // namespace mnv2::test
