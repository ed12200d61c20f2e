// int8 without dot products of bytes: bytes are widened to 16-bit words, of which VPMADDWD adds up products of two exactly.
// VPMADDUBSW would saturate.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/sizes.h"
#include "cpu/int8/simd/cover-inl.h"
#include "cpu/int8/simd/x86/avx2_groups-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr int64_t step_depths = 2;
constexpr int64_t step_weights = step_depths * group;

MNV2_INLINE __m256i load_words(const uint8_t* x)
{
    return _mm256_cvtepu8_epi16(load_bytes(x));
}

// sum += x * weights; as one, or GCC moves the additions apart and spills.
MNV2_INLINE void multiply_add(__m256i& sum, __m256i x, __m256i weights)
{
    __m256i product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(x), "x"(weights));
}

// --- pointwise and linear layers ---

// Words of a tile's pixels, of as many blocks as are held at once.
constexpr int64_t held_blocks = 4;

template <Tile TILE>
struct Words {
    alignas(32) int16_t at[held_blocks][TILE.mr][block_channels];
};

template <Tile TILE>
MNV2_INLINE void widen(const Pixels& x, int64_t pixel, int64_t first_block, Words<TILE>& words)
{
    const int64_t end = block_count(x.channels) - first_block;
    for (int64_t block = 0; block < (end < held_blocks ? end : held_blocks); ++block) {
        const int64_t width = x.width(x.channels - (first_block + block) * block_channels);
        const uint8_t* from = x.data + (first_block + block) * x.plane + pixel * width;
        for (int m = 0; m < TILE.mr; ++m, from += width)
            for (int64_t k = 0; k < width; k += group)
                _mm256_store_si256(reinterpret_cast<__m256i*>(words.at[block][m] + k), load_words(from + k));
    }
}

MNV2_INLINE __m256i broadcast_two(const int16_t* x)
{
    int32_t two;
    __builtin_memcpy(&two, x, sizeof two);
    return _mm256_set1_epi32(two);
}

// Two depths of the tile's pixels, x(m) being a pixel's.
template <Tile TILE, class X>
MNV2_INLINE void add_step(Sums<TILE>& sums, const int16_t* weights, const X& x)
{
    __m256i loaded[TILE.vectors];
    MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v) loaded[v] = load(weights + group * v);
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) {
        const __m256i two = x(m);
        MNV2_UNROLL
        for (int v = 0; v < TILE.vectors; ++v) multiply_add(sums.at[m][v], two, loaded[v]);
    }
}

// The held blocks' depths; returns the weights behind them.
template <Tile TILE>
MNV2_INLINE const int16_t* add_held(Sums<TILE>& sums, const Words<TILE>& words, int64_t depths, const int16_t* weights)
{
    for (int64_t block = 0; block < held_blocks && depths > 0; ++block, depths -= block_channels) {
        const int16_t* x = words.at[block][0];
#pragma GCC unroll 1
        for (int64_t k = 0; k < depths && k < block_channels; k += step_depths, x += step_depths, weights += step_weights)
            add_step(sums, weights,
                     [&](int m) __attribute__((always_inline)) { return broadcast_two(x + m * block_channels); });
    }
    return weights;
}

// The weights of the group that begins at a channel.
const int16_t* weights_of(const uint8_t* panel, int64_t width, int64_t first, int64_t steps)
{
    return reinterpret_cast<const int16_t*>(factors_of(panel) + 3 * width) + first * steps * step_depths;
}

// One tile, the groups of a panel's first `y_width` channels: while all blocks are held, bytes are widened once.
template <Tile TILE, class Store>
MNV2_INLINE void all_groups(const Pixels& x, int64_t pixel, const uint8_t* panel, int64_t width, int64_t y_width,
                            const Store& store)
{
    constexpr int64_t held_channels = held_blocks * block_channels;
    const int64_t steps = divide_up(x.channels, step_depths);
    Words<TILE> words;
    if (x.channels <= held_channels) widen(x, pixel, 0, words);
    for (int64_t first = 0; first < y_width; first += group) {
        Sums<TILE> sums;
        clear(sums);
        const int16_t* weights = weights_of(panel, width, first, steps);
        for (int64_t done = 0; done < x.channels; done += held_channels) {
            if (x.channels > held_channels) widen(x, pixel, done / block_channels, words);
            weights = add_held(sums, words, x.channels - done, weights);
        }
        store(sums, first);
    }
}

template <int MR, bool HAS_SHORTCUT>
__attribute__((noinline)) void panel_tiles(const PointwiseRun& run, int64_t column, int64_t tiles)
{
    constexpr Tile tile{.mr = MR, .vectors = 2};
    for (int64_t row = 0; row < run.rows; ++row) {
        int64_t at = row * run.y_pitch + column * run.y_width, pixel = run.first + row * run.columns + column;
        for (int64_t count = tiles; count > 0; --count, pixel += MR, at += MR * run.y_width)
            all_groups<tile>(run.x, pixel, run.panel, run.width, run.y_width,
                             [&](const Sums<tile>& sums, int64_t first) __attribute__((always_inline)) {
                                 store_tile<tile, HAS_SHORTCUT>(sums, factors_of(run.panel), run.width, first,
                                                                run.y + at + first, run.y_width,
                                                                HAS_SHORTCUT ? run.shortcut + at + first : nullptr);
                             });
    }
}

constexpr int64_t max_mr = 6;  // twelve sums, two weights, a pixel's depths and a product

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
        all_groups<tile>(run.x, pixel, run.panel, run.width, run.width,
                         [&](const Sums<tile>& sums, int64_t first) __attribute__((always_inline)) {
                             store_floats(sums, factors_of(run.panel) + first, run.width, run.y + pixel * run.width + first);
                         });
}

void linear(const LinearRun& run)
{
    cover<max_mr>(run.pixels, [&]<int MR>(int64_t pixel, int64_t tiles) { linear_tiles<MR>(run, pixel, tiles); });
}

// --- stem ---

template <int MR>
__attribute__((noinline)) void stem_tiles(const StemRun& run, int64_t column, int64_t tiles)
{
    constexpr Tile tile{.mr = MR, .vectors = 2};
    const int64_t words = kernel_size * run.words, pitch = run.stride * run.words * word_bytes;
    const int64_t steps = kernel_size * words * word_bytes / step_depths;
    for (int64_t first = 0; first < run.y_width; first += group)
        for (int64_t done = column; done < column + tiles * MR; done += MR) {
            Sums<tile> sums;
            clear(sums);
            const int16_t* weights = weights_of(run.panel, run.width, first, steps);
            for (int64_t ky = 0; ky < kernel_size; ++ky) {
                const uint8_t* x = run.rows[ky] + done * pitch;
#pragma GCC unroll 1
                for (int64_t word = 0; word < words; ++word, x += word_bytes, weights += 2 * step_weights) {
                    const auto pixel = [&](int m) __attribute__((always_inline)) {
                        return _mm_cvtepu8_epi16(_mm_loadu_si32(x + m * pitch));
                    };
                    add_step(sums, weights,
                             [&](int m) __attribute__((always_inline)) { return _mm256_broadcastd_epi32(pixel(m)); });
                    add_step(sums, weights + step_weights, [&](int m) __attribute__((always_inline)) {
                        return _mm256_broadcastd_epi32(_mm_srli_epi64(pixel(m), 32));
                    });
                }
            }
            store_tile<tile, false>(sums, factors_of(run.panel), run.width, first, run.y + done * run.y_width + first,
                                    run.y_width, nullptr);
        }
}

void stem(const StemRun& run)
{
    cover<max_mr>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) { stem_tiles<MR>(run, column, tiles); });
}

// --- depthwise layers and the pool ---

// Pairs (r0, r1) and (r2, 0) of a column of a group.
struct Column {
    __m256i pairs[2][2];
};

MNV2_INLINE Column load_column(const DepthwiseRun& run, int64_t at)
{
    const __m256i first = load_words(run.rows[0] + at), second = load_words(run.rows[1] + at);
    const __m256i third = load_words(run.rows[2] + at), zero = _mm256_setzero_si256();
    return {{{_mm256_unpacklo_epi16(first, second), _mm256_unpackhi_epi16(first, second)},
             {_mm256_unpacklo_epi16(third, zero), _mm256_unpackhi_epi16(third, zero)}}};
}

struct Two {
    __m256i at[2];
};

// weights: a column's, of a group.
MNV2_INLINE void add(Two& sums, const Column& x, const int16_t* weights)
{
    MNV2_UNROLL
    for (int pair = 0; pair < 2; ++pair) MNV2_UNROLL
    for (int v = 0; v < 2; ++v)
        sums.at[v] = _mm256_add_epi32(sums.at[v],
                                      _mm256_madd_epi16(x.pairs[pair][v], load(weights + (pair * 2 + v) * 2 * register_lanes)));
}

MNV2_INLINE Two started(const Column& x, const int16_t* weights)
{
    Two sums{{_mm256_setzero_si256(), _mm256_setzero_si256()}};
    add(sums, x, weights);
    return sums;
}

// One group of channels. A column is widened once and serves three results, with stride 2 one or two.
template <int STRIDE>
void depthwise_group(const DepthwiseRun& run, int64_t first)
{
    constexpr int64_t column_weights = 2 * 2 * group;
    const float* const m = factors_of(run.packed) + first;
    const int16_t* const weights =
        reinterpret_cast<const int16_t*>(factors_of(run.packed) + 2 * run.width) + first * kernel_size * 4;
    const auto load_at = [&](int64_t column)
                             __attribute__((always_inline)) { return load_column(run, column * run.width + first); };
    const auto finish = [&](const Two& sums, int64_t column) __attribute__((always_inline)) {
        store_group(run.y + column * run.width + first, scaled(sums.at[0], m, m + run.width),
                    scaled(sums.at[1], m + register_lanes, m + run.width + register_lanes));
    };
    Two sums = started(load_at(0), weights);
    if constexpr (STRIDE == 2) {
        for (int64_t column = 0; column < run.columns; ++column) {
            add(sums, load_at(2 * column + 1), weights + column_weights);
            const Column x = load_at(2 * column + 2);
            add(sums, x, weights + 2 * column_weights);
            finish(sums, column);
            sums = started(x, weights);
        }
        return;
    }
    Column x = load_at(1);
    add(sums, x, weights + column_weights);
    Two next = started(x, weights);
    for (int64_t column = 0; column < run.columns; ++column) {
        x = load_at(column + 2);
        add(sums, x, weights + 2 * column_weights);
        finish(sums, column);
        sums = next;
        add(sums, x, weights + column_weights);
        next = started(x, weights);
    }
}

void depthwise(const DepthwiseRun& run)
{
    for (int64_t first = 0; first < run.width; first += group)
        run.stride == 1 ? depthwise_group<1>(run, first) : depthwise_group<2>(run, first);
}

MNV2_INLINE __m256 pooled(__m256i sum, float factor)
{
    const __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(factor));
    return _mm256_min_ps(_mm256_max_ps(y, _mm256_setzero_ps()), _mm256_set1_ps(255.0f));
}

void pool(const PoolRun& run)
{
    for (int64_t first = 0; first < run.width; first += group) {
        __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int64_t pixel = 0; pixel < run.pixels; ++pixel) {
            const __m128i bytes = _mm_shuffle_epi32(load_bytes(run.x + pixel * run.width + first), _MM_SHUFFLE(3, 1, 2, 0));
            sums[0] = _mm256_add_epi32(sums[0], _mm256_cvtepu8_epi32(bytes));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)));
        }
        store_group(run.y + first, pooled(sums[0], run.factor), pooled(sums[1], run.factor));
    }
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
