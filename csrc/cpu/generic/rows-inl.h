// Image rows on their way in and out: from a tensor of any strides and dtype to blocked float32, and from float32 to the
// result's dtype.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/kernels.h"
#include "cpu/simd/convert-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Calls function with a null pointer of the C++ type that dtype names.
template <class Function>
MNV2_INLINE void with_type(ScalarType dtype, const Function& function)
{
    switch (dtype) {
        case ScalarType::float32: return function(static_cast<float*>(nullptr));
        case ScalarType::float16: return function(static_cast<Half*>(nullptr));
        case ScalarType::bfloat16: return function(static_cast<BFloat16*>(nullptr));
    }
}

template <class To>
struct BlockedRow {
    To* data;
    int64_t plane;  // elements from a vector of channels to the next
};

// Channels of one pixel to one vector; lanes past the last channel become zero.
template <class T, class To>
MNV2_INLINE void load_last_channels(const T* from, int64_t stride, int64_t count, To* to)
{
    for (int64_t i = 0; i < lanes; ++i) from_float(i < count ? to_float(from[i * stride]) : 0.0f, to + i);
}

template <class T, class To>
void load_row_nhwc(const T* from, int64_t stride_w, int64_t channels, int64_t width, const BlockedRow<To>& to)
{
    const int64_t whole = channels / lanes;
    for (int64_t pixel = 0; pixel < width; ++pixel) {
        const T* source = from + pixel * stride_w;
        To* target = to.data + pixel * lanes;
        for (int64_t vector = 0; vector < whole; ++vector) narrow(target + vector * to.plane, widen(source + vector * lanes));
        if (channels % lanes) load_last_channels(source + whole * lanes, 1, channels % lanes, target + whole * to.plane);
    }
}

template <class T, class To>
void load_row_strided(const T* from, int64_t stride_c, int64_t stride_w, int64_t channels, int64_t width,
                      const BlockedRow<To>& to)
{
    To* target = to.data;
    for (int64_t first = 0; first < channels; first += lanes, target += to.plane) {
        const int64_t count = smaller(channels - first, lanes);
        for (int64_t pixel = 0; pixel < width; ++pixel)
            load_last_channels(from + first * stride_c + pixel * stride_w, stride_c, count, target + pixel * lanes);
    }
}

template <class To>
void load_row(const ImageView& x, int64_t channels, int64_t width, int64_t row, BlockedRow<To> to)
{
    with_type(x.dtype, [&](auto* type) {
        const auto* from = static_cast<decltype(type)>(const_cast<void*>(x.data)) + row * x.stride_h;
        if (x.stride_c == 1)
            load_row_nhwc(from, x.stride_w, channels, width, to);
        else
            load_row_strided(from, x.stride_c, x.stride_w, channels, width, to);
    });
}

// Consecutive pixels of blocked images, widened.
void load_blocked(const ImageView& x, int64_t channels, int64_t first, int64_t pixels, BlockedRow<float> to)
{
    const auto* from = static_cast<const Stored*>(x.data) + first * lanes;
    for (int64_t vector = 0; vector < vectors_of(channels); ++vector)
        for (int64_t pixel = 0; pixel < pixels; ++pixel)
            store(to.data + vector * to.plane + pixel * lanes, widen(from + vector * x.stride_vector + pixel * lanes));
}

// One channel's row, to consecutive floats.
void load_channel_row(const ImageView& x, int64_t channel, int64_t width, int64_t row, float* to)
{
    with_type(x.dtype, [&](auto* type) {
        const auto* from = static_cast<decltype(type)>(const_cast<void*>(x.data)) + row * x.stride_h + channel * x.stride_c;
        int64_t pixel = 0;
        if (x.stride_w == 1)
            for (; pixel + lanes <= width; pixel += lanes) store(to + pixel, widen(from + pixel));
        for (; pixel < width; ++pixel) to[pixel] = to_float(from[pixel * x.stride_w]);
    });
}

// The same of an image of bytes: table has what each byte stands for.
void look_up_channel_row(const ImageView& x, const float* table, int64_t channel, int64_t width, int64_t row, float* to)
{
    const auto* from = static_cast<const uint8_t*>(x.data) + row * x.stride_h + channel * x.stride_c;
    for (int64_t pixel = 0; pixel < width; ++pixel) to[pixel] = table[from[pixel * x.stride_w]];
}

template <class T>
void narrow_values(const float* from, int64_t count, T* to)
{
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) narrow(to + i, load(from + i));
    for (; i < count; ++i) from_float(from[i], to + i);
}

// Results that were computed as float32 go to the tensor y at an offset counted in elements.
void store_values(const float* from, int64_t count, ScalarType dtype, void* y, int64_t offset)
{
    if (dtype == ScalarType::float16) narrow_values(from, count, static_cast<Half*>(y) + offset);
    if (dtype == ScalarType::bfloat16) narrow_values(from, count, static_cast<BFloat16*>(y) + offset);
    if (dtype == ScalarType::float32) narrow_values(from, count, static_cast<float*>(y) + offset);
}

// Blocked float32 results of consecutive pixels to blocked images. plane: elements from a vector of channels to the next.
void store_blocked(const float* from, int64_t from_plane, int64_t pixels, int64_t channels, Stored* to, int64_t plane)
{
    for (int64_t vector = 0; vector < vectors_of(channels); ++vector)
        for (int64_t pixel = 0; pixel < pixels; ++pixel)
            narrow(to + vector * plane + pixel * lanes, load(from + vector * from_plane + pixel * lanes));
}

template <class T>
void round_through(float* values, int64_t count)
{
    T rounded[lanes];
    for (int64_t i = 0; i < count; i += lanes) {
        narrow(rounded, load(values + i));
        store(values + i, widen(rounded));
    }
}

// Rounds to what a tensor of dtype would hold; count is a multiple of lanes.
void round_values(float* values, int64_t count, ScalarType dtype)
{
    if (dtype == ScalarType::float16) round_through<Half>(values, count);
    if (dtype == ScalarType::bfloat16) round_through<BFloat16>(values, count);
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
