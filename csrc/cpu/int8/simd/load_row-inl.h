// Rows of an image, as pixels of whole words. Compiled once per instruction set; the loops are the compiler's to vectorise.
#pragma once

#include <cstdint>

#include "cpu/int8/kernels.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// A pixel of three channels is one word, whose lowest byte is the first channel.
template <class Stride>
MNV2_INLINE void load_three(const ImageRow& row, Stride stride_w, uint8_t* pixels)
{
    const uint8_t *first = row.data, *second = first + row.stride_c, *third = second + row.stride_c;
    for (int64_t column = 0; column < row.columns; ++column) {
        const int64_t at = column * stride_w;
        const uint32_t word = first[at] | uint32_t{second[at]} << 8 | uint32_t{third[at]} << 16;
        __builtin_memcpy(pixels + 4 * column, &word, sizeof word);
    }
}

void load_any(const ImageRow& row, uint8_t* pixels)
{
    const int64_t bytes = pixel_words(row.channels) * word_bytes;
    for (int64_t column = 0; column < row.columns; ++column, pixels += bytes)
        for (int64_t channel = 0; channel < bytes; ++channel)
            pixels[channel] = channel < row.channels ? row.data[channel * row.stride_c + column * row.stride_w] : uint8_t{0};
}

void load_row(const ImageRow& row, uint8_t* pixels)
{
    if (row.channels != 3) return load_any(row, pixels);
    struct One {
        constexpr operator int64_t() const { return 1; }
    };
    if (row.stride_w == 1) return load_three(row, One(), pixels);
    load_three(row, row.stride_w, pixels);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
