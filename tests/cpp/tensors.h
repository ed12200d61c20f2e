// Input tensors of every layout that torch can hand over, weights, and results that start out dead.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/block.h"
#include "guarded.h"
#include "numbers.h"
#include "reference.h"

namespace mnv2::test {

using Random = std::mt19937;

// How a tensor lies in memory.
enum class Layout {
    nhwc,
    nchw,
    nhwc_slice,  // of a tensor with more of everything
    nchw_slice,
    transposed,  // rows and columns
    every_other_channel,
    same_image,  // expanded: stride 0
    same_row,
    same_column,
    same_channel,
    one_value,
};

constexpr Layout layouts[] = {Layout::nhwc,         Layout::nchw,       Layout::nhwc_slice,
                              Layout::nchw_slice,   Layout::transposed, Layout::every_other_channel,
                              Layout::same_image,   Layout::same_row,   Layout::same_column,
                              Layout::same_channel, Layout::one_value};

struct Strides {
    int64_t n, c, h, w;
};

inline Strides strides_of(Layout layout, int64_t height, int64_t width, int64_t channels)
{
    const int64_t more_height = height + 2, more_width = width + 3, more_channels = channels + 5;
    const Strides nhwc = {height * width * channels, 1, width * channels, channels};
    switch (layout) {
        case Layout::nhwc: break;
        case Layout::nchw: return {channels * height * width, height * width, width, 1};
        case Layout::nhwc_slice:
            return {more_height * more_width * more_channels, 1, more_width * more_channels, more_channels};
        case Layout::nchw_slice: return {more_channels * more_height * more_width, more_height * more_width, more_width, 1};
        case Layout::transposed: return {channels * height * width, height * width, 1, height};
        case Layout::every_other_channel: return {2 * nhwc.n, 2, 2 * nhwc.h, 2 * nhwc.w};
        case Layout::same_image: return {0, nhwc.c, nhwc.h, nhwc.w};
        case Layout::same_row: return {width * channels, 1, 0, channels};
        case Layout::same_column: return {height * channels, 1, channels, 0};
        case Layout::same_channel: return {height * width, 0, width, 1};
        case Layout::one_value: return {0, 0, 0, 0};
    }
    return nhwc;
}

inline std::vector<float> random_floats(Random& random, int64_t count, double mean, double deviation)
{
    std::normal_distribution<double> normal(mean, deviation);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(normal(random));
    return values;
}

inline Convolution constant_convolution(int64_t out_channels, int64_t depth, float weight)
{
    return {std::vector<float>(static_cast<size_t>(out_channels * depth), weight), {}, {}};
}

// Weights that keep the size of what passes through them; scale and bias are left out of every third convolution.
inline Convolution random_convolution(Random& random, int64_t out_channels, int64_t depth)
{
    Convolution layer;
    layer.weight = random_floats(random, out_channels * depth, 0.0, std::sqrt(2.0 / static_cast<double>(depth)));
    if (random() % 3) layer.scale = random_floats(random, out_channels, 1.0, 0.5);
    if (random() % 3) layer.bias = random_floats(random, out_channels, 0.3, 0.5);
    return layer;
}

// An (N, C, H, W) tensor's bytes from its first element to its last one; what lies between its elements is NaN.
class Tensor {
public:
    Tensor(ScalarType dtype, Layout layout, int64_t batch, int64_t height, int64_t width, int64_t channels)
        : dtype_(dtype),
          strides_(strides_of(layout, height, width, channels)),
          batch_(batch),
          height_(height),
          width_(width),
          channels_(channels)
    {
        const bool is_empty = batch == 0;
        const int64_t elements = is_empty ? 0 : offset(batch - 1, height - 1, width - 1, channels - 1) + 1;
        bytes_.resize(static_cast<size_t>(elements * scalar_bytes(dtype)));
        for (int64_t i = 0; i < elements; ++i) store_number(dtype, NAN, bytes_.data(), i);
    }

    static Tensor random(Random& random, ScalarType dtype, Layout layout, int64_t batch, int64_t height, int64_t width,
                         int64_t channels)
    {
        Tensor tensor(dtype, layout, batch, height, width, channels);
        std::normal_distribution<double> normal(0.2, 1.0);
        tensor.fill([&](int64_t, int64_t, int64_t, int64_t) { return normal(random); });
        return tensor;
    }

    // value(n, y, x, c)
    template <class Value>
    void fill(const Value& value)
    {
        for (int64_t n = 0; n < batch_; ++n)
            for (int64_t y = 0; y < height_; ++y)
                for (int64_t x = 0; x < width_; ++x)
                    for (int64_t c = 0; c < channels_; ++c) set(n, y, x, c, value(n, y, x, c));
    }

    void set(int64_t n, int64_t y, int64_t x, int64_t c, double value)
    {
        store_number(dtype_, value, bytes_.data(), offset(n, y, x, c));
    }

    // What the tensor holds, without error.
    Image image() const
    {
        Image image(batch_, height_, width_, channels_);
        for (int64_t n = 0; n < batch_; ++n)
            for (int64_t y = 0; y < height_; ++y)
                for (int64_t x = 0; x < width_; ++x)
                    for (int64_t c = 0; c < channels_; ++c)
                        image(n, y, x, c).value = load_number(dtype_, bytes_.data(), offset(n, y, x, c));
        return image;
    }

    // A pixel whose first channel is so large that a further 1 is lost beside it, then zeros, then ones.
    static Tensor large_then_ones(int64_t zeros, int64_t ones)
    {
        Tensor tensor(ScalarType::float32, Layout::nhwc, 1, 1, 1, 1 + zeros + ones);
        tensor.fill([=](int64_t, int64_t, int64_t, int64_t c) { return c == 0 ? 0x1p24 : c <= zeros ? 0.0 : 1.0; });
        return tensor;
    }

    const std::vector<uint8_t>& bytes() const { return bytes_; }
    ScalarType dtype() const { return dtype_; }

    InputView view(const void* data) const { return {data, dtype_, strides_.n, strides_.c, strides_.h, strides_.w}; }
    InputView view() const { return view(bytes_.data()); }

    // The same memory, seen from image n on.
    InputView view_from_image(int64_t n) const { return view(bytes_.data() + offset(n, 0, 0, 0) * scalar_bytes(dtype_)); }

private:
    int64_t offset(int64_t n, int64_t y, int64_t x, int64_t c) const
    {
        return n * strides_.n + y * strides_.h + x * strides_.w + c * strides_.c;
    }

    ScalarType dtype_;
    Strides strides_;
    int64_t batch_, height_, width_, channels_;
    std::vector<uint8_t> bytes_;
};

constexpr uint8_t dead_byte = 0xc5;  // as float32 -6330, as float16 -5.77, as bfloat16 -6304: no result of these tests

}  // namespace mnv2::test
