// THE table of instruction sets: what each one's packed weights look like. How a processor is asked for them is in
// cpu/isa/features.h, what its kernels compute with in cpu/simd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "core/block.h"

namespace mnv2 {

// These numbers stand in packed headers.
enum class Isa : int32_t { scalar, neon, avx2, avx512, neon_fp16, neon_bf16, amx_bf16, avx512_bf16 };

struct IsaFormat {
    Isa isa;
    const char* name;       // in MNV2_FORCE_ISA, in the build and in mnv2 info
    int32_t vector_width;   // floats in a vector
    int32_t panel_vectors;  // vectors of output channels in a whole panel of weights
    ScalarType stored;      // what pointwise layers multiply: the weights that it serves. float32 serves all.

    constexpr bool serves(ScalarType weights) const { return stored == ScalarType::float32 || stored == weights; }
};

// In the order of Isa.
constexpr IsaFormat isa_formats[] = {
    {Isa::scalar, "scalar", 4, 2, ScalarType::float32},       {Isa::neon, "neon", 4, 2, ScalarType::float32},
    {Isa::avx2, "avx2", 8, 2, ScalarType::float32},           {Isa::avx512, "avx512", 16, 2, ScalarType::float32},
    {Isa::neon_fp16, "neon_fp16", 8, 2, ScalarType::float16}, {Isa::neon_bf16, "neon_bf16", 4, 2, ScalarType::bfloat16},
    {Isa::amx_bf16, "amx_bf16", 32, 1, ScalarType::bfloat16}, {Isa::avx512_bf16, "avx512_bf16", 16, 2, ScalarType::bfloat16},
};

// Null for a number that is no instruction set's: a damaged header may hold any.
constexpr const IsaFormat* find_format(Isa isa)
{
    const auto index = static_cast<size_t>(isa);
    return index < std::size(isa_formats) ? &isa_formats[index] : nullptr;
}

// For an instruction set of the table.
constexpr const IsaFormat& format_of(Isa isa)
{
    return *find_format(isa);
}

constexpr ScalarType stored_type(Isa isa)
{
    return format_of(isa).stored;
}

constexpr bool is_in_order_of_isa()
{
    for (size_t index = 0; index < std::size(isa_formats); ++index)
        if (isa_formats[index].isa != static_cast<Isa>(index)) return false;
    return true;
}
static_assert(is_in_order_of_isa());

}  // namespace mnv2
