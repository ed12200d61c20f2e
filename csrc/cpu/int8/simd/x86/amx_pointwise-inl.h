// Pointwise layers by matrix tiles: sixteen pixels by a panel's channels. An instruction adds the products of sixteen pixels by
// sixteen channels over 64 depths. The panel is AVX-512's: its rows of sixteen channels by four depths are a tile's. The file
// that includes this one has included the tiles' instructions, or a model of them.
#pragma once

#include <cstdint>

#include "core/sizes.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/simd/x86/avx512_tiles-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr int64_t tile_pixels = 16;
// Registers 0 to 3 hold the sums of sixteen channels each; the others a block's pixels and weights, and the last block's where
// that is no whole one.
constexpr int whole_pixels = 4, last_pixels = 5, whole_weights = 6, last_weights = 7;

MNV2_INLINE TileShapes shapes_of(int64_t pixels, int64_t channels)
{
    constexpr int64_t word = step_depths;
    const int64_t last_depths = round_up(channels % block_channels, word);
    TileShapes shapes;
    for (int vector = 0; vector < 4; ++vector) shapes.set(vector, pixels, register_lanes * word);
    shapes.set(whole_pixels, pixels, block_channels);
    shapes.set(whole_weights, block_channels / word, register_lanes * word);
    if (last_depths == 0) return shapes;
    shapes.set(last_pixels, pixels, last_depths);
    shapes.set(last_weights, last_depths / word, register_lanes * word);
    return shapes;
}

// Calls each<vector>() for a panel's vectors.
template <int VECTORS, class Each>
MNV2_INLINE void for_each_vector(const Each& each)
{
    each.template operator()<0>();
    if constexpr (VECTORS > 1) each.template operator()<1>();
    if constexpr (VECTORS > 2) {
        each.template operator()<2>();
        each.template operator()<3>();
    }
}

// One block of depths.
template <int VECTORS, int PIXELS, int WEIGHTS>
MNV2_INLINE void add_block(const uint8_t* x, int64_t width, const uint8_t* weights)
{
    constexpr int64_t vector_bytes = register_lanes * step_depths;
    tile_load<PIXELS>(x, width);
    for_each_vector<VECTORS>([&]<int V>() __attribute__((always_inline)) {
        tile_load<WEIGHTS>(weights + vector_bytes * V, vector_bytes * VECTORS);
        tile_dot<V, PIXELS, WEIGHTS>();
    });
}

// Writes the sums of a tile's pixels, one behind the other.
template <int VECTORS>
MNV2_INLINE void sum_tile(const Pixels& x, int64_t pixel, const uint8_t* weights, int32_t* sums)
{
    for_each_vector<VECTORS>([&]<int V>() __attribute__((always_inline)) { tile_zero<V>(); });
    const uint8_t* block = x.data;
    int64_t left = x.channels;
    for (; left >= block_channels; left -= block_channels, block += x.plane) {
        add_block<VECTORS, whole_pixels, whole_weights>(block + pixel * block_channels, block_channels, weights);
        weights += block_channels * register_lanes * VECTORS;
    }
    if (left > 0) {
        add_block<VECTORS, last_pixels, last_weights>(block + pixel * x.last_width, x.last_width, weights);
    }
    for_each_vector<VECTORS>([&]<int V>() __attribute__((always_inline)) {
        tile_store<V>(sums + register_lanes * V, register_lanes * VECTORS * static_cast<int64_t>(sizeof *sums));
    });
}

// Pixels of one register of bytes, or, at the end, one pixel.
template <Tile TILE, class Pitch>
MNV2_INLINE void store_pixels(const int32_t* sums, const float* factors, uint8_t* y, const uint8_t* shortcut, Pitch pitch)
{
    Sums<TILE> loaded;
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v) loaded.at[m][v] = _mm512_load_si512(sums + register_lanes * (m * TILE.vectors + v));
    store_bytes(loaded, factors, y, shortcut, pitch);
}

template <Tile ONE, class Pitch>
MNV2_INLINE void store_all(const int32_t* sums, int64_t pixels, const float* factors, uint8_t* y, const uint8_t* shortcut,
                           Pitch pitch)
{
    constexpr Tile several{.mr = 4 / ONE.vectors, .vectors = ONE.vectors, .end = ONE.end, .is_narrow = ONE.is_narrow};
    int64_t pixel = 0;
    const auto store = [&]<Tile TILE>() __attribute__((always_inline)) {
        const int64_t at = pixel * pitch;
        store_pixels<TILE>(sums + pixel * TILE.width(), factors, y + at, TILE.end == End::shortcut ? shortcut + at : nullptr,
                           pitch);
        pixel += TILE.mr;
    };
    while (pixel + several.mr <= pixels) store.template operator()<several>();
    while (pixel < pixels) store.template operator()<ONE>();
}

// The last tile starts early enough to be whole, and computes some pixels again.
template <Tile ONE>
__attribute__((noinline)) void panel_tiles(const PointwiseRun& run, int64_t pixels)
{
    const auto pitch = pitch_of<ONE>(run.y_width);
    const float* const factors = factors_of<ONE>(run.panel);
    alignas(64) int32_t sums[tile_pixels * ONE.width()];
    for (int64_t row = 0; row < run.rows; ++row)
        for (int64_t next = 0; next < run.columns; next += tile_pixels) {
            const int64_t column = next < run.columns - pixels ? next : run.columns - pixels;
            const int64_t at = row * run.y_pitch + column * pitch;
            sum_tile<ONE.vectors>(run.x, run.first + row * run.columns + column, weights_of<ONE>(run.panel), sums);
            store_all<ONE>(sums, pixels, factors, run.y + at, ONE.end == End::shortcut ? run.shortcut + at : nullptr, pitch);
        }
}

template <int VECTORS, End END, bool IS_NARROW>
void pointwise_panel(const PointwiseRun& run)
{
    const int64_t pixels = run.columns < tile_pixels ? run.columns : tile_pixels;
    with_tile_registers(shapes_of(pixels, run.x.channels), [&] {
        panel_tiles<Tile{.mr = 1, .vectors = VECTORS, .end = END, .is_narrow = IS_NARROW}>(run, pixels);
    });
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
