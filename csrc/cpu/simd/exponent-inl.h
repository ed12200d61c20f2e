// Where float32 has its exponent, for half_power_of_two.
#pragma once

namespace mnv2::cpu::MNV2_ISA {
namespace {

constexpr int exponent_shift = 23;
constexpr int half_exponent = 126;  // of 2^-1

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
