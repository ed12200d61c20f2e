// Pointwise layers by tiles of vector registers.
#pragma once

#include <cstdint>

#include "cpu/int8/simd/x86/avx512_tiles-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// Tiles of consecutive pixels in each row from a column on.
template <Tile TILE>
__attribute__((noinline)) void panel_tiles(const PointwiseRun& run, int64_t column, int64_t tiles)
{
    const auto pitch = pitch_of<TILE>(run.y_width);
    const float* const factors = factors_of<TILE>(run.panel);
    const Pixels x = run.x;
    const int64_t steps = divide_up(x.channels, step_depths), lines = divide_up(int64_t{TILE.width()}, run.rows * tiles);
    Ahead ahead{weights_of<TILE>(run.panel) + steps * step_depths * TILE.width(), lines};
    for (int64_t row = 0; row < run.rows; ++row) {
        int64_t at = row * run.y_pitch + column * pitch, pixel = run.first + row * run.columns + column;
        for (int64_t tile = 0; tile < tiles; ++tile, pixel += TILE.mr, at += TILE.mr * pitch) {
            Sums<TILE> sums;
            clear(sums);
            sum_pixels(sums, x, pixel, weights_of<TILE>(run.panel), ahead);
            store_bytes(sums, factors, run.y + at, TILE.end == End::shortcut ? run.shortcut + at : nullptr, pitch);
        }
    }
}

template <int VECTORS, End END, bool IS_NARROW>
void pointwise_panel(const PointwiseRun& run)
{
    cover<max_mr(VECTORS)>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) {
        panel_tiles<Tile{.mr = MR, .vectors = VECTORS, .end = END, .is_narrow = IS_NARROW}>(run, column, tiles);
    });
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
