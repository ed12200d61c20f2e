// Rows of an image, as pixels of whole words. Compiled once per instruction set; the loops are the compiler's to vectorise.
#pragma once

#include <cstdint>

#include "cpu/int8/kernels.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// A channel of bytes.
struct ByteChannel {
    using Value = uint8_t;
    const uint8_t* data;

    ByteChannel(const ImageRow& row, int64_t channel) : data(row.data + channel * row.stride_c) {}
    MNV2_INLINE uint32_t at(int64_t index) const { return data[index]; }
};

// A channel of floats.
struct FloatChannel {
    using Value = float;
    const float* data;
    float factor, zero_point;

    FloatChannel(const ImageRow& row, int64_t channel)
        : data(reinterpret_cast<const float*>(row.data + channel * row.stride_c)),
          factor(row.factors[channel]),
          zero_point(row.zero_points[channel])
    {
    }
    MNV2_INLINE uint32_t at(int64_t index) const
    {
        const float y = __builtin_fmaf(data[index], factor, zero_point);
        const float from_0 = y > 0.0f ? y : 0.0f, to_255 = from_0 < 255.0f ? from_0 : 255.0f;
        // Floats from 2^23 on are whole numbers, and their last bits are the number's: the sum rounds to the nearest even.
        const float whole = to_255 + 0x1p23f;
        uint32_t bits;
        __builtin_memcpy(&bits, &whole, sizeof bits);
        return bits & 255;
    }
};

// A pixel of three channels is one word, whose lowest byte is the first channel. The number of columns is copied: for all that
// the compiler knows, pixels could overwrite the row's, and no loop of unknown length is vectorised.
template <class Channel, class Stride>
MNV2_INLINE void load_three(const ImageRow& row, Stride stride_w, uint8_t* pixels)
{
    const Channel first(row, 0), second(row, 1), third(row, 2);
    const int64_t columns = row.columns;
    for (int64_t column = 0; column < columns; ++column) {
        const int64_t at = column * stride_w;
        const uint32_t word = first.at(at) | second.at(at) << 8 | third.at(at) << 16;
        __builtin_memcpy(pixels + 4 * column, &word, sizeof word);
    }
}

template <class Channel>
void load_any(const ImageRow& row, int64_t stride_w, uint8_t* pixels)
{
    const int64_t bytes = pixel_words(row.channels) * word_bytes;
    for (int64_t channel = 0; channel < row.channels; ++channel) {
        const Channel from(row, channel);
        for (int64_t column = 0; column < row.columns; ++column)
            pixels[column * bytes + channel] = static_cast<uint8_t>(from.at(column * stride_w));
    }
    for (int64_t channel = row.channels; channel < bytes; ++channel)
        for (int64_t column = 0; column < row.columns; ++column) pixels[column * bytes + channel] = 0;
}

template <class Channel>
void load_channels(const ImageRow& row, uint8_t* pixels)
{
    struct One {
        constexpr operator int64_t() const { return 1; }
    };
    const int64_t stride_w = row.stride_w / static_cast<int64_t>(sizeof(typename Channel::Value));
    if (row.channels != 3) return load_any<Channel>(row, stride_w, pixels);
    if (stride_w == 1) return load_three<Channel>(row, One(), pixels);
    load_three<Channel>(row, stride_w, pixels);
}

void load_row(const ImageRow& row, uint8_t* pixels)
{
    row.is_float ? load_channels<FloatChannel>(row, pixels) : load_channels<ByteChannel>(row, pixels);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
