// Pointwise and linear layers and the stem by VNNI on registers of 32 bytes, of which there are sixteen: tiles of MR pixels by
// a group of channels.
#pragma once

#include "core/sizes.h"
#include "cpu/int8/simd/cover-inl.h"
#include "cpu/int8/simd/x86/avx2_groups-inl.h"
#include "cpu/int8/simd/x86/vnni_registers-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

using WidestBytes = Bytes32;

constexpr int64_t step_depths = 4;
constexpr int64_t step_weights = group * step_depths;

MNV2_INLINE __m256i broadcast_word(const uint8_t* x)
{
    int32_t word;
    __builtin_memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
}

// Four depths; x: the first pixel's, `pitch` bytes from the next one's.
template <Tile TILE>
MNV2_INLINE void add_step(Sums<TILE>& sums, const uint8_t* x, int64_t pitch, const uint8_t* weights)
{
    __m256i loaded[TILE.vectors];
    MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v) loaded[v] = load(weights + 4 * register_lanes * v);
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) {
        const __m256i word = broadcast_word(x + m * pitch);
        MNV2_UNROLL
        for (int v = 0; v < TILE.vectors; ++v) dot(sums.at[m][v], word, loaded[v]);
    }
}

// The weights of the group that begins at a channel.
MNV2_INLINE const uint8_t* weights_of(const uint8_t* panel, int64_t width, int64_t first, int64_t steps)
{
    return panel + 3 * float_bytes * width + first * steps * step_depths;
}

template <Tile TILE>
MNV2_INLINE void sum_pixels(Sums<TILE>& sums, const Pixels& x, int64_t pixel, const uint8_t* panel, int64_t panel_width,
                            int64_t first)
{
    clear(sums);
    const uint8_t* weights = weights_of(panel, panel_width, first, divide_up(x.channels, step_depths));
    const uint8_t* block = x.data;
    for (int64_t left = x.channels; left > 0; left -= block_channels, block += x.plane) {
        const int64_t width = x.width(left), depths = left < block_channels ? left : block_channels;
        const uint8_t* from = block + pixel * width;
#pragma GCC unroll 1
        for (int64_t k = 0; k < depths; k += step_depths, from += step_depths, weights += step_weights)
            add_step(sums, from, width, weights);
    }
}

template <int MR, bool HAS_SHORTCUT>
__attribute__((noinline)) void panel_tiles(const PointwiseRun& run, int64_t column, int64_t tiles)
{
    constexpr Tile tile{.mr = MR, .vectors = 2};
    for (int64_t row = 0; row < run.rows; ++row)
        for (int64_t first = 0; first < run.y_width; first += group) {
            int64_t at = row * run.y_pitch + column * run.y_width + first, pixel = run.first + row * run.columns + column;
            for (int64_t count = tiles; count > 0; --count, pixel += MR, at += MR * run.y_width) {
                Sums<tile> sums;
                sum_pixels(sums, run.x, pixel, run.panel, run.width, first);
                store_tile<tile, HAS_SHORTCUT>(sums, factors_of(run.panel), run.width, first, run.y + at, run.y_width,
                                               HAS_SHORTCUT ? run.shortcut + at : nullptr);
            }
        }
}

constexpr int64_t max_mr = 6;  // twelve sums, two weights and a pixel's depths

void pointwise(const PointwiseRun& run)
{
    cover<max_mr>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) {
        run.shortcut ? panel_tiles<MR, true>(run, column, tiles) : panel_tiles<MR, false>(run, column, tiles);
    });
}

template <int MR>
__attribute__((noinline)) void linear_tiles(const LinearRun& run, int64_t pixel, int64_t tiles)
{
    constexpr Tile tile{.mr = MR, .vectors = 2};
    for (; tiles > 0; --tiles, pixel += MR)
        for (int64_t first = 0; first < run.width; first += group) {
            Sums<tile> sums;
            sum_pixels(sums, run.x, pixel, run.panel, run.width, first);
            store_floats(sums, factors_of(run.panel) + first, run.width, run.y + pixel * run.width + first);
        }
}

void linear(const LinearRun& run)
{
    cover<max_mr>(run.pixels, [&]<int MR>(int64_t pixel, int64_t tiles) { linear_tiles<MR>(run, pixel, tiles); });
}

template <int MR>
__attribute__((noinline)) void stem_tiles(const StemRun& run, int64_t column, int64_t tiles)
{
    constexpr Tile tile{.mr = MR, .vectors = 2};
    const int64_t words = kernel_size * run.words, pitch = run.stride * run.words * word_bytes;
    for (int64_t first = 0; first < run.y_width; first += group)
        for (int64_t done = column; done < column + tiles * MR; done += MR) {
            Sums<tile> sums;
            clear(sums);
            const uint8_t* weights = weights_of(run.panel, run.width, first, kernel_size * words);
            for (int64_t ky = 0; ky < kernel_size; ++ky) {
                const uint8_t* x = run.rows[ky] + done * pitch;
#pragma GCC unroll 1
                for (int64_t word = 0; word < words; ++word, x += word_bytes, weights += step_weights)
                    add_step(sums, x, pitch, weights);
            }
            store_tile<tile, false>(sums, factors_of(run.panel), run.width, first, run.y + done * run.y_width + first,
                                    run.y_width, nullptr);
        }
}

void stem(const StemRun& run)
{
    cover<max_mr>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) { stem_tiles<MR>(run, column, tiles); });
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
