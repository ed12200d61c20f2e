// Pointwise and linear layers and the stem of every NEON instruction set: loops over tiles of MR pixels by one group of
// channels. An instruction set defines, before it includes this file:
//
//   format                         its format; a tile has format.group channels
//   cover_row<Tiles>(columns, f)   cuts a row into tiles: f<MR>(column, count)
//   Tile<MR>                       sums of a pointwise tile:
//       start(starts)                             before the first depth; starts: int32, one for each channel, if it has starts
//       add_block(x, width, steps, weights)       a block of pixels `width` bytes wide; returns the weights behind it
//       four(pixel, j)                            the sums of channels 4 j to 4 j + 3
//   StemTile<MR>                   sums of a stem's tile: start and four, and
//       add_word(x, pitch, weights)               a word of each pixel, `pitch` bytes from one pixel to the next
#pragma once

#include "core/sizes.h"
#include "cpu/int8/simd/neon/registers-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr int64_t group = format.group;

// Where the weights of the group that begins at a channel stand.
MNV2_INLINE const int8_t* weights_of(const uint8_t* panel, int64_t width, int64_t first, int64_t depths)
{
    return reinterpret_cast<const int8_t*>(panel + factor_bytes(3, width, format)) + first * depths;
}

MNV2_INLINE const int32_t* starts_of(const uint8_t* panel, int64_t width, int64_t first)
{
    return reinterpret_cast<const int32_t*>(panel) + 3 * width + first;
}

template <int MR>
MNV2_INLINE void sum_pixels(Tile<MR>& tile, const Pixels& x, int64_t pixel, const uint8_t* panel, int64_t panel_width,
                            int64_t first)
{
    tile.start(starts_of(panel, panel_width, first));
    const int8_t* weights = weights_of(panel, panel_width, first, round_up(x.channels, format.depths));
    const uint8_t* block = x.data;
    for (int64_t left = x.channels; left > 0; left -= block_channels, block += x.plane) {
        const int64_t width = x.width(left), depths = left < block_channels ? left : block_channels;
        weights = tile.add_block(block + pixel * width, width, divide_up(depths, format.depths), weights);
    }
}

// A group from channel `first` on of a panel of `width` channels; the first `y_width` of these are stored. y, shortcut: the
// group's of the tile's first pixel.
template <int MR, bool HAS_SHORTCUT, class Sums>
MNV2_INLINE void store_tile(const Sums& sums, const float* factors, int64_t width, int64_t first_channel, uint8_t* y,
                            int64_t y_width, const uint8_t* shortcut)
{
    MNV2_UNROLL
    for (int m = 0; m < MR; ++m) MNV2_UNROLL
    for (int j = 0; j < group / lanes; j += 2) {
        if (first_channel + j * lanes >= y_width) continue;
        const float* const of = factors + first_channel + j * lanes;
        float32x4_t first = scaled(sums.four(m, j), of, of + width);
        float32x4_t second = scaled(sums.four(m, j + 1), of + lanes, of + width + lanes);
        if constexpr (HAS_SHORTCUT) {
            const float* const r = of + 2 * width;
            const uint16x8_t words = vmovl_u8(vld1_u8(shortcut + m * y_width + j * lanes));
            first = vfmaq_f32(first, vcvtq_f32_u32(vmovl_u16(vget_low_u16(words))), vld1q_f32(r));
            second = vfmaq_f32(second, vcvtq_f32_u32(vmovl_high_u16(words)), vld1q_f32(r + lanes));
        }
        vst1_u8(y + m * y_width + j * lanes, to_bytes(first, second));
    }
}

template <int MR, bool HAS_SHORTCUT>
__attribute__((noinline)) void panel_tiles(const PointwiseRun& run, int64_t column, int64_t tiles)
{
    for (int64_t row = 0; row < run.rows; ++row)
        for (int64_t first = 0; first < run.y_width; first += group) {
            int64_t at = row * run.y_pitch + column * run.y_width + first, pixel = run.first + row * run.columns + column;
            for (int64_t count = tiles; count > 0; --count, pixel += MR, at += MR * run.y_width) {
                Tile<MR> tile;
                sum_pixels(tile, run.x, pixel, run.panel, run.width, first);
                store_tile<MR, HAS_SHORTCUT>(tile, factors_of(run.panel), run.width, first, run.y + at, run.y_width,
                                             HAS_SHORTCUT ? run.shortcut + at : nullptr);
            }
        }
}

void pointwise(const PointwiseRun& run)
{
    cover_row(run.columns, [&]<int MR>(int64_t column, int64_t tiles) {
        run.shortcut ? panel_tiles<MR, true>(run, column, tiles) : panel_tiles<MR, false>(run, column, tiles);
    });
}

template <int MR>
__attribute__((noinline)) void linear_tiles(const LinearRun& run, int64_t pixel, int64_t tiles)
{
    for (; tiles > 0; --tiles, pixel += MR)
        for (int64_t first = 0; first < run.width; first += group) {
            Tile<MR> tile;
            sum_pixels(tile, run.x, pixel, run.panel, run.width, first);
            const float* const factors = factors_of(run.panel) + first;
            float* const y = run.y + pixel * run.width + first;
            MNV2_UNROLL
            for (int m = 0; m < MR; ++m) MNV2_UNROLL
            for (int j = 0; j < group / lanes; ++j) {
                const float* const of = factors + j * lanes;
                vst1q_f32(y + m * run.width + j * lanes, scaled(tile.four(m, j), of, of + run.width));
            }
        }
}

void linear(const LinearRun& run)
{
    cover_row(run.pixels, [&]<int MR>(int64_t pixel, int64_t tiles) { linear_tiles<MR>(run, pixel, tiles); });
}

template <int MR>
__attribute__((noinline)) void stem_tiles(const StemRun& run, int64_t column, int64_t tiles)
{
    const int64_t words = kernel_size * run.words, pitch = run.stride * run.words * word_bytes;
    for (int64_t first = 0; first < run.y_width; first += group)
        for (int64_t done = column; done < column + tiles * MR; done += MR) {
            StemTile<MR> tile;
            tile.start(starts_of(run.panel, run.width, first));
            const int8_t* weights = weights_of(run.panel, run.width, first, kernel_size * words * word_bytes);
            for (int64_t ky = 0; ky < kernel_size; ++ky) {
                const uint8_t* x = run.rows[ky] + done * pitch;
                for (int64_t word = 0; word < words; ++word, x += word_bytes, weights += group * word_bytes)
                    tile.add_word(x, pitch, weights);
            }
            store_tile<MR, false>(tile, factors_of(run.panel), run.width, first, run.y + done * run.y_width + first,
                                  run.y_width, nullptr);
        }
}

void stem(const StemRun& run)
{
    cover_row(run.columns, [&]<int MR>(int64_t column, int64_t tiles) { stem_tiles<MR>(run, column, tiles); });
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
