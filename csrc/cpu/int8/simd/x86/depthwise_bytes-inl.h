// Depthwise rows and the pool: bytes of three rows, or of four pixels, interleaved side by side and summed by dot products.
// Interleaving in lanes shuffles channels over four vectors, packing them to bytes undoes that. An instruction set defines
// WidestBytes, the longest register that it has.
#pragma once

#include <cstdint>

#include "cpu/int8/kernels.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

// 32-bit numbers of a block's channels.
template <class Bytes>
struct Four {
    typename Bytes::Vec at[4];
};

// Words (a, b, c, d) of four vectors of bytes.
template <class Bytes>
MNV2_INLINE Four<Bytes> side_by_side(typename Bytes::Vec a, typename Bytes::Vec b, typename Bytes::Vec c, typename Bytes::Vec d)
{
    const auto low_ab = Bytes::low8(a, b), high_ab = Bytes::high8(a, b);
    const auto low_cd = Bytes::low8(c, d), high_cd = Bytes::high8(c, d);
    return {{Bytes::low16(low_ab, low_cd), Bytes::high16(low_ab, low_cd), Bytes::low16(high_ab, high_cd),
             Bytes::high16(high_ab, high_cd)}};
}

// A window's column from a byte of its rows on; the fourth weight is 0.
template <class Bytes>
MNV2_INLINE Four<Bytes> load_column(const DepthwiseRun& run, int64_t at)
{
    const auto last = Bytes::load(run.rows[2] + at);
    return side_by_side<Bytes>(Bytes::load(run.rows[0] + at), Bytes::load(run.rows[1] + at), last, last);
}

template <class Bytes>
MNV2_INLINE void add(Four<Bytes>& sums, const Four<Bytes>& x, const Four<Bytes>& weights)
{
    MNV2_UNROLL
    for (int j = 0; j < 4; ++j) dot(sums.at[j], x.at[j], weights.at[j]);
}

template <class Bytes>
MNV2_INLINE Four<Bytes> started(const Four<Bytes>& x, const Four<Bytes>& weights)
{
    Four<Bytes> sums{{Bytes::zero(), Bytes::zero(), Bytes::zero(), Bytes::zero()}};
    add(sums, x, weights);
    return sums;
}

template <class Bytes>
MNV2_INLINE void store_packed(const Four<Bytes>& values, uint8_t* y)
{
    const auto low = Bytes::pack32(values.at[0], values.at[1]), high = Bytes::pack32(values.at[2], values.at[3]);
    Bytes::store(y, Bytes::pack16(low, high));
}

// factors: M; B follows WIDTH later.
template <int WIDTH, class Bytes>
MNV2_INLINE void finish(const Four<Bytes>& sums, const float* factors, uint8_t* y)
{
    constexpr int64_t lanes = Bytes::width / 4;
    Four<Bytes> scaled;
    MNV2_UNROLL
    for (int j = 0; j < 4; ++j) scaled.at[j] = Bytes::scaled(sums.at[j], factors + j * lanes, factors + WIDTH + j * lanes);
    store_packed(scaled, y);
}

// As many channels of a block of WIDTH as a register has bytes. A column is interleaved once and serves three results, with
// stride 2 one or two.
template <class Bytes, int WIDTH, int STRIDE>
MNV2_INLINE void depthwise_row(const DepthwiseRun& run, int64_t first)
{
    const auto* const factors = reinterpret_cast<const float*>(run.packed) + first;
    const uint8_t* const packed = run.packed + 2 * float_bytes * WIDTH + 4 * first;
    Four<Bytes> weights[kernel_size];
    MNV2_UNROLL
    for (int64_t kx = 0; kx < kernel_size; ++kx) MNV2_UNROLL
    for (int64_t j = 0; j < 4; ++j) weights[kx].at[j] = Bytes::load(packed + 4 * kx * WIDTH + j * Bytes::width);
    const auto load_at = [&](int64_t column)
                             __attribute__((always_inline)) { return load_column<Bytes>(run, column * WIDTH + first); };
    uint8_t* y = run.y + first;
    Four<Bytes> sums = started(load_at(0), weights[0]);
    if constexpr (STRIDE == 2) {
        for (int64_t column = 0; column < run.columns; ++column, y += WIDTH) {
            add(sums, load_at(2 * column + 1), weights[1]);
            const Four<Bytes> x = load_at(2 * column + 2);
            add(sums, x, weights[2]);
            finish<WIDTH>(sums, factors, y);
            sums = started(x, weights[0]);
        }
        return;
    }
    Four<Bytes> x = load_at(1);
    add(sums, x, weights[1]);
    Four<Bytes> next = started(x, weights[0]);
    for (int64_t column = 0; column < run.columns; ++column, y += WIDTH) {
        x = load_at(column + 2);
        add(sums, x, weights[2]);
        finish<WIDTH>(sums, factors, y);
        sums = next;
        add(sums, x, weights[1]);
        next = started(x, weights[0]);
    }
}

template <class Bytes, int WIDTH>
void depthwise_of_width(const DepthwiseRun& run)
{
    for (int64_t first = 0; first < WIDTH; first += Bytes::width)
        run.stride == 1 ? depthwise_row<Bytes, WIDTH, 1>(run, first) : depthwise_row<Bytes, WIDTH, 2>(run, first);
}

void depthwise(const DepthwiseRun& run)
{
    if (run.width == 64) return depthwise_of_width<WidestBytes, 64>(run);
    if (run.width == 32) return depthwise_of_width<Bytes32, 32>(run);
    depthwise_of_width<Bytes16, 16>(run);
}

template <class Bytes>
MNV2_INLINE void pool_channels(const PoolRun& run, int64_t first)
{
    const Four<Bytes> ones{{Bytes::ones(), Bytes::ones(), Bytes::ones(), Bytes::ones()}};
    Four<Bytes> sums{{Bytes::zero(), Bytes::zero(), Bytes::zero(), Bytes::zero()}};
    for (int64_t pixel = 0; pixel < run.pixels; pixel += 4) {
        const auto load = [&](int64_t at) __attribute__((always_inline)) {
            return at < run.pixels ? Bytes::load(run.x + at * run.width + first) : Bytes::zero();
        };
        add(sums, side_by_side<Bytes>(load(pixel), load(pixel + 1), load(pixel + 2), load(pixel + 3)), ones);
    }
    MNV2_UNROLL
    for (int j = 0; j < 4; ++j) sums.at[j] = Bytes::pooled(sums.at[j], run.factor);
    store_packed(sums, run.y + first);
}

template <class Bytes>
void pool_of_width(const PoolRun& run)
{
    for (int64_t first = 0; first < run.width; first += Bytes::width) pool_channels<Bytes>(run, first);
}

void pool(const PoolRun& run)
{
    if (run.width == 64) return pool_of_width<WidestBytes>(run);
    if (run.width == 32) return pool_of_width<Bytes32>(run);
    pool_of_width<Bytes16>(run);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
