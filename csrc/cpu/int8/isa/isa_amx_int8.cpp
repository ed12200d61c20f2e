#define MNV2_ISA amx_int8

#include "cpu/int8/isa/isa.h"
#include "cpu/int8/simd/x86/amx_tiles-inl.h"
//
#include "cpu/int8/simd/x86/amx_pointwise-inl.h"
//
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/x86/depthwise_bytes-inl.h"
#include "cpu/int8/simd/x86/pointwise_widths-inl.h"

namespace mnv2::cpu::int8 {
namespace amx_int8 {
namespace {

// Four sums, as a panel has, take up an instruction's latency.
double dot_burst(int64_t rounds, int32_t* sink)
{
    constexpr int64_t sums = 4, products = tile_pixels * register_lanes * block_channels;
    alignas(64) constexpr uint8_t zeros[tile_pixels * block_channels] = {};
    alignas(64) int32_t results[tile_pixels * register_lanes];
    with_tile_registers(shapes_of(tile_pixels, block_channels), [&] {
        tile_load<whole_pixels>(zeros, block_channels);
        tile_load<whole_weights>(zeros, block_channels);
        for_each_vector<sums>([]<int V>() __attribute__((always_inline)) { tile_zero<V>(); });
        for (int64_t round = 0; round < rounds; ++round)
            for_each_vector<sums>([]<int V>() __attribute__((always_inline)) { tile_dot<V, whole_pixels, whole_weights>(); });
        tile_store<0>(results, register_lanes * static_cast<int64_t>(sizeof *results));
    });
    sink[2] += results[0];
    return 2.0 * sums * products * static_cast<double>(rounds);
}

}  // namespace
}  // namespace amx_int8

static_assert(format_of(Isa::amx_int8).vector_lanes == amx_int8::register_lanes);
static_assert(format_of(Isa::amx_int8).depths == amx_int8::step_depths);

const Kernels amx_int8_kernels{format_of(Isa::amx_int8), amx_int8::pointwise, amx_int8::linear, amx_int8::depthwise,
                               amx_int8::stem,           amx_int8::load_row,  amx_int8::pool,   amx_int8::dot_burst};

}  // namespace mnv2::cpu::int8
