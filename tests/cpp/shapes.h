// The values that the tests combine.
#pragma once

#include <cstdint>
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

constexpr Activation activations[] = {Activation::none, Activation::relu, Activation::relu6};

// All sixteen paddings.
inline std::vector<Padding> paddings()
{
    std::vector<Padding> all;
    for (int32_t bits = 0; bits < 16; ++bits) all.push_back({bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1});
    return all;
}

template <class Params>
bool has_output(const Params& params)
{
    return params.out_height() > 0 && params.out_width() > 0;
}

}  // namespace mnv2::test
