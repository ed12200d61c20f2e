// A model of Intel AMX's tile registers and of the instructions of cpu/int8/simd/x86/amx_tiles-inl.h, under the same names:
// kernels compile with either. What the processor would answer with an exception ends the program.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/simd/amx/tile_shapes-inl.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

using cpu::MNV2_ISA::most_tile_row_bytes;
using cpu::MNV2_ISA::most_tile_rows;
using cpu::MNV2_ISA::tile_count;
using cpu::MNV2_ISA::TileShapes;

struct EmulatedTile {
    int rows = 0, row_bytes = 0;
    uint8_t at[most_tile_rows][most_tile_row_bytes] = {};
};

// The registers of a thread, without shapes until it sets them.
thread_local EmulatedTile tiles[tile_count];

void require(bool condition, const char* what)
{
    if (condition) return;
    std::printf("emulated tiles: expected %s\n", what);
    std::fflush(stdout);
    std::abort();
}

EmulatedTile& used(int tile)
{
    require(tiles[tile].rows > 0, "a register with a shape");
    return tiles[tile];
}

template <class Body>
void with_tile_registers(const TileShapes& shapes, const Body& body)
{
    require(shapes.palette == 1 && shapes.start_row == 0, "palette 1 from row 0 on");
    for (int tile = 0; tile < tile_count; ++tile) {
        const int rows = shapes.rows[tile], row_bytes = shapes.row_bytes[tile];
        require(rows <= most_tile_rows && row_bytes <= most_tile_row_bytes, "shapes that a register can have");
        require((rows == 0) == (row_bytes == 0), "rows and their bytes, or neither");
        tiles[tile] = EmulatedTile{rows, row_bytes, {}};
    }
    body();
    for (EmulatedTile& tile : tiles) tile = {};
}

template <int TILE>
void tile_zero()
{
    std::memset(used(TILE).at, 0, sizeof tiles[TILE].at);
}

template <int TILE>
void tile_load(const uint8_t* from, int64_t pitch)
{
    EmulatedTile& tile = used(TILE);
    std::memset(tile.at, 0, sizeof tile.at);
    for (int row = 0; row < tile.rows; ++row)
        std::memcpy(tile.at[row], from + row * pitch, static_cast<size_t>(tile.row_bytes));
}

template <int TILE>
void tile_store(int32_t* to, int64_t pitch)
{
    const EmulatedTile& tile = used(TILE);
    for (int row = 0; row < tile.rows; ++row)
        std::memcpy(reinterpret_cast<uint8_t*>(to) + row * pitch, tile.at[row], static_cast<size_t>(tile.row_bytes));
}

// One row's sum of a channel.
int32_t dot_of(const EmulatedTile& x, const EmulatedTile& weights, int row, int channel)
{
    uint32_t sum = 0;  // wraps, as the instruction does
    for (int k = 0; k < x.row_bytes; ++k)
        sum += static_cast<uint32_t>(int{x.at[row][k]} * int{static_cast<int8_t>(weights.at[k / 4][4 * channel + k % 4])});
    return static_cast<int32_t>(sum);
}

template <int SUMS, int X, int WEIGHTS>
void tile_dot()
{
    static_assert(SUMS != X && SUMS != WEIGHTS && X != WEIGHTS);
    EmulatedTile& sums = used(SUMS);
    const EmulatedTile &x = used(X), &weights = used(WEIGHTS);
    require(sums.rows == x.rows, "as many rows of sums as of x");
    require(sums.row_bytes == weights.row_bytes, "as many columns of sums as of weights");
    require(x.row_bytes == 4 * weights.rows, "as many depths of x as of weights");
    for (int row = 0; row < sums.rows; ++row)
        for (int channel = 0; channel < sums.row_bytes / 4; ++channel) {
            int32_t sum;
            std::memcpy(&sum, sums.at[row] + 4 * channel, sizeof sum);
            sum = static_cast<int32_t>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(dot_of(x, weights, row, channel)));
            std::memcpy(sums.at[row] + 4 * channel, &sum, sizeof sum);
        }
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
