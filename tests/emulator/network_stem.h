// MobileNetV2's stem and its images of three planes.
#pragma once

#include <cstdint>

#include "core/block.h"

namespace mnv2::test {

inline StemParams network_stem(int64_t batch)
{
    StemParams stem{};
    stem.batch = batch;
    stem.height = stem.width = 224;
    stem.in_channels = 3;
    stem.out_channels = 32;
    return stem;
}

inline int64_t image_numbers(const StemParams& stem)
{
    return stem.batch * stem.in_channels * stem.height * stem.width;
}

inline InputView planes(const StemParams& stem, ScalarType type, const void* data)
{
    const int64_t plane = stem.height * stem.width;
    return {data, type, stem.in_channels * plane, plane, stem.width, 1};
}

}  // namespace mnv2::test
