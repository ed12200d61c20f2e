// The values that the tests combine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "core/block.h"

namespace mnv2::test {

// Off the multiples of every vector width, on them, and of a depth that needs a second accumulator.
constexpr int64_t channel_counts[] = {1, 3, 8, 17, 24, 51, 96, 144, 200};

struct Size {
    int64_t height, width;
};

constexpr Size sizes[] = {{1, 1}, {2, 3}, {3, 2}, {7, 5}, {15, 17}, {14, 14}};

constexpr ScalarType dtypes[] = {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16};

constexpr auto activations = [] {
    std::array<Activation, std::size(activation_table)> all{};
    for (size_t index = 0; index < all.size(); ++index) all[index] = static_cast<Activation>(index);
    return all;
}();

// Those that every backend has.
constexpr Activation clamps[] = {Activation::none, Activation::relu, Activation::relu6};

// All sixteen paddings of a 3x3; of larger kernels those whose sides are either the most that there may be or one of the
// others.
inline std::vector<Padding> paddings(int32_t kernel = kernel_size)
{
    const int32_t most = most_padding(kernel);
    std::vector<Padding> all;
    for (int32_t bits = 0; bits < 16; ++bits) {
        const auto side = [&](int32_t index) { return bits >> index & 1 ? most : index % most; };
        all.push_back({side(0), side(1), side(2), side(3)});
    }
    return all;
}

// A layer's channels, for no image yet.
template <class Params>
Params layer_of(int64_t in_channels, int64_t out_channels)
{
    Params params{};
    params.in_channels = in_channels;
    params.out_channels = out_channels;
    return params;
}

// One image of that size.
template <class Params>
Params sized(Params params, const Size& size)
{
    params.batch = 1;
    params.height = size.height;
    params.width = size.width;
    return params;
}

inline StemParams stem_of(int64_t in_channels, int64_t out_channels, int32_t stride = 2)
{
    StemParams params = layer_of<StemParams>(in_channels, out_channels);
    params.stride = stride;
    return params;
}

inline HeadPoolParams head_of(int64_t in_channels, int64_t out_channels)
{
    return layer_of<HeadPoolParams>(in_channels, out_channels);
}

template <class Params>
bool has_output(const Params& params)
{
    return params.out_height() > 0 && params.out_width() > 0;
}

// Calls body for the layer at every size, stride and padding that give it an output.
template <class Params, class Body>
void for_each_window(Params params, const Body& body)
{
    for (const Size& size : sizes)
        for (const int32_t stride : {1, 2})
            for (const Padding& padding : paddings(params.kernel)) {
                params = sized(params, size);
                params.stride = stride;
                params.padding = padding;
                if (has_output(params)) body(params);
            }
}

}  // namespace mnv2::test
