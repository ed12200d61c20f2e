// The shapes of the registers of matrix tiles (Intel AMX), of which there are eight.
#pragma once

#include <cstdint>

#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

constexpr int tile_count = 8, most_tile_rows = 16, most_tile_row_bytes = 64;

// As LDTILECFG reads them: 64 bytes. A register without rows must not be used.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    MNV2_INLINE void set(int tile, int64_t of_rows, int64_t of_row_bytes)
    {
        rows[tile] = static_cast<uint8_t>(of_rows);
        row_bytes[tile] = static_cast<uint16_t>(of_row_bytes);
    }
};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
