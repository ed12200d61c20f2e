// Activations that are no clamp, on registers and vectors. NaN stays NaN, infinity does what it does in torch.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Calls function<CURVE>() for a curve that is only known now.
template <class Function>
MNV2_INLINE void with_curve(Curve curve, const Function& function)
{
    switch (curve) {
        case Curve::none: return function.template operator()<Curve::none>();
        case Curve::hardswish: return function.template operator()<Curve::hardswish>();
        case Curve::silu: return function.template operator()<Curve::silu>();
    }
}

// clamp(x + 3, 0, 6) / 6
MNV2_INLINE Register hardsigmoid(Register x)
{
    const Register shifted = add(x, splat_register(3.0f));
    return mul(clamp(shifted, splat_register(0.0f), splat_register(6.0f)), splat_register(1.0f / 6.0f));
}

// 1 + exp(-x): infinity from the largest exponents of float32 on, 1 where exp(-x) is too small to count. exp(-x) is 2^n *
// exp(-s) with n whole and |s| <= ln(2) / 2, and exp(-s) = 1 + s * (-1 + s * q(s)) with q by least squares: an error of 0.05 of
// float32's last digit. All multiply-adds round once, so that every instruction set gives the same bits.
MNV2_INLINE Register one_and_exponential_of_negative(Register x)
{
    // Below the least n would leave the exponents of float32. From 18 on exp(-x) is too small to count.
    constexpr float least = -89.0f, most = 40.0f;
    constexpr float log2_e = 0x1.715476p+0f;
    constexpr float ln_2_high = 0x1.62e4p-1f, ln_2_low = 0x1.7f7d1cp-20f;  // the first has few digits: its products are exact
    constexpr float round_to_whole = 0x1.8p23f;                            // leaves n in the last bits of a sum
    constexpr float half_q[] = {0x1.6a2434p-11f, -0x1.1239e2p-8f, 0x1.5558f2p-6f, -0x1.555492p-4f, 0x1.fffffcp-3f};
    x = clamp(x, splat_register(least), splat_register(most));
    const Register n_in_bits = fma_once(x, splat_register(-log2_e), splat_register(round_to_whole));
    const Register n = add(n_in_bits, splat_register(-round_to_whole));
    const Register s = fma_once(n, splat_register(ln_2_low), fma_once(n, splat_register(ln_2_high), x));
    Register sum = splat_register(half_q[0]);
    MNV2_UNROLL
    for (int i = 1; i < 5; ++i) sum = fma_once(sum, s, splat_register(half_q[i]));
    sum = fma_once(sum, s, splat_register(-0.5f));
    // Half of all, whose largest exponent float32 still has. Added to the smaller term, the rest costs a rounding less. Unless
    // n is 0, s is no smaller than 2^-43: its exponent has room for n.
    const Register rest = fma_once(times_power_of_two(s, n_in_bits), sum, splat_register(0.5f));
    const Register half = add(times_power_of_two(splat_register(0.5f), n_in_bits), rest);
    return add(half, half);
}

// At most 2 units in the last place (tests/cpp/test_curves.cpp) wherever 1 + exp(-x) is finite, which is from -88.7 on; a zero
// below.
MNV2_INLINE Register silu(Register x)
{
    return div(x, one_and_exponential_of_negative(x));
}

MNV2_INLINE Register sigmoid(Register x)
{
    return div(splat_register(1.0f), one_and_exponential_of_negative(x));
}

template <Curve CURVE>
MNV2_INLINE Register apply_curve(Register x)
{
    if constexpr (CURVE == Curve::hardswish) return mul(x, hardsigmoid(x));
    if constexpr (CURVE == Curve::silu) return silu(x);
    return x;
}

// The same on vectors of two registers.
template <Curve CURVE, class Vector>
    requires(vector_registers == 2)
MNV2_INLINE Vector apply_curve(Vector x)
{
    return {apply_curve<CURVE>(x.low), apply_curve<CURVE>(x.high)};
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
