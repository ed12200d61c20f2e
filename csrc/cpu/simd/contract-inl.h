// What vectors define, whatever the instruction set: simd/<isa>.h with the files that it includes, and convert-inl.h. isa-inl.h
// includes this list, so that no instruction set compiles without all of it.
//
//   Vec, lanes                a vector of floats, and how many
//   Register                  what one register of a vector holds
//   vector_registers          registers that a vector takes
//   register_count            vector registers of the instruction set
//   panel_vectors             vectors of output channels in a whole panel of weights
//   Stored                    the type of blocked activations: float, Half or BFloat16
//   max_mr                    pixels of the tallest tiles, one and two vectors wide
//   unrolled_k                depths in a pass of a tile's innermost loop; divides lanes
//   fma_overwrites_addend     whether a multiply-add takes a copy where its addend is needed again
//   fetch_ahead               whether tiles fetch the panel that comes next
//
//   load, store, splat        a vector from memory, to memory, of one number
//   store_first               the first lanes only; writes nothing behind them
//   add, mul, fma, clamp      a + b, a * b, a * b + c (in one rounding but in scalar.h), min(high, max(low, x)); NaN stays NaN
//   widen, narrow             a vector from and to memory of any type, rounded to the nearest, of two the even one
//   load_register             one register; splat_register, store_register, add, mul, fma, clamp and narrow know them, too
//   fma_once, div             of registers: a * b + c in one rounding, also in scalar.h; a / b
//   times_power_of_two        of registers: a * 2^n, n whole and in the last bits of the second's lanes; a and the product are
//                             normal numbers, or n is 0
//   fma_broadcast             accumulator += w * x[0]
//   depths, fma_depth<K>      accumulator += w * x[K], where depths(x) may have loaded unrolled_k depths of a pixel
//
// Where panels hold two depths side by side (core/packing.h), also:
//
//   two_depth_max_mr          pixels of the tallest tiles, one and three vectors wide
//   broadcast_two             x[0], x[1], x[0], x[1], ...
//   broadcast_one_of_two      x[0], 0, x[0], 0, ...
//   fma_into                  accumulator += w * x
//   add_neighbours            the sums of each two neighbours of a, then of b
//
#pragma once

#include <cstdint>

#include "core/packing.h"
#include "cpu/isa/fetch_ahead.h"
#include "cpu/simd/convert-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// FLOAT is float. As the calls depend on it, what is missing is an unmet requirement of these concepts.
template <class FLOAT>
concept ComputesWithVectors = requires(Vec v, const FLOAT* from, FLOAT* to, FLOAT number, int64_t count) {
    v = load(from);
    v = splat(number);
    v = add(v, splat(number));
    v = mul(v, splat(number));
    v = fma(v, v, splat(number));
    v = clamp(v, v, splat(number));
    store(to, v);
    store_first(to, v, count);
    fma_broadcast(v, v, from);
    fma_depth<0>(v, v, depths(from));
};

template <class FLOAT>
concept ComputesWithRegisters = requires(Register r, const FLOAT* from, FLOAT* floats, FLOAT number, Stored* to) {
    r = load_register(from);
    r = splat_register(number);
    store_register(floats, r);
    r = add(r, splat_register(number));
    r = mul(r, splat_register(number));
    r = fma(r, r, splat_register(number));
    r = fma_once(r, r, splat_register(number));
    r = div(r, splat_register(number));
    r = times_power_of_two(r, splat_register(number));
    r = clamp(r, r, splat_register(number));
    narrow(to, splat_register(number));
};

template <class NUMBER>
concept Converts = requires(Vec v, const NUMBER* from, NUMBER* to) {
    v = widen(from);
    narrow(to, v);
};

template <class FLOAT>
concept TakesTwoDepths = requires(Vec v, const FLOAT* from) {
    v = broadcast_two(from);
    v = broadcast_one_of_two(from);
    v = add_neighbours(v, broadcast_two(from));
    fma_into(v, v, broadcast_two(from));
};

static_assert(ComputesWithVectors<float> && ComputesWithRegisters<float>);
static_assert(Converts<float> && Converts<Half> && Converts<BFloat16>);
static_assert(TakesTwoDepths<float> || !has_two_depths(1, {Isa::scalar, lanes, panel_vectors, type_of<Stored>}));

static_assert(lanes % unrolled_k == 0 && lanes % vector_registers == 0);
static_assert(panel_vectors == 1 || panel_vectors == 2);
static_assert(fma_overwrites_addend || fetch_ahead <= FetchAhead::always);
static_assert(max_mr[0] >= max_mr[1] && max_mr[1] > 0);

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
