// What the pair product (core/pair_product.h) has to know of a layer's input before any output channel: each pixel's scale, and
// the sums of its pairs.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/pair_product.h"
#include "core/sums.h"
#include "cpu/simd/macros.h"
#include "cpu/sums-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// A layer's input pixels, scaled, and what all output channels add for each of them.
struct PairPixels {
    const Stored* x;           // blocked
    int64_t x_plane;           // elements from a block to the next
    const float* corrections;  // of each run, a pixel each: minus the sum of its pairs' a1 a2
    int64_t run_step;          // floats from a run's to the next one's
    const float* unscale;      // what takes each pixel's scale away again; 0 for an odd pixel
    bool has_odd;              // pixels of NaN, infinity or a mean square out of range: they are not scaled
};

#ifdef MNV2_HAS_PAIR_PRODUCT

constexpr bool has_pair_product = true;

static_assert(lanes == 2 * pair_group && sum_depth % lanes == 0);

// The power of two nearest to 1 / sqrt(mean_square), and its inverse.
struct PixelScale {
    float scale, unscale;

    explicit PixelScale(float mean_square)
    {
        if (!(mean_square >= least_mean_square && mean_square <= largest_mean_square)) {
            scale = 1.0f;
            unscale = 0.0f;
            return;
        }
        constexpr int32_t bias = 127, fraction_bits = 23;
        int32_t bits;
        std::memcpy(&bits, &mean_square, sizeof bits);
        const int32_t exponent = ((bits >> fraction_bits) - bias + 1) >> 1;
        const int32_t scale_bits = (bias - exponent) << fraction_bits, unscale_bits = (bias + exponent) << fraction_bits;
        std::memcpy(&scale, &scale_bits, sizeof scale);
        std::memcpy(&unscale, &unscale_bits, sizeof unscale);
    }
};

// Of the lanes of a block with so many depths, those that start a pair: 1, or -1 where it is an opposite one.
MNV2_INLINE Vec correction_signs(int64_t depth)
{
    float signs[lanes];
    for (int k = 0; k < lanes; ++k) signs[k] = !starts_pair(k, depth) ? 0.0f : is_opposite_pair(k) ? 1.0f : -1.0f;
    return load(signs);
}

// The depths of a pixel, block by block; the last one may have fewer.
class PixelBlocks {
public:
    PixelBlocks(int64_t depth, const float* x, int64_t x_plane, float* scaled, int64_t scaled_plane)
        : depth_(depth),
          blocks_(vectors_of(depth)),
          whole_(depth / lanes),
          x_plane_(x_plane),
          scaled_plane_(scaled_plane),
          x_(x),
          scaled_(scaled),
          whole_signs_(correction_signs(lanes)),
          rest_signs_(correction_signs(depth % lanes))
    {
    }

    // The squares of all depths, added up lane by lane.
    Vec squares(int64_t pixel) const
    {
        Vec sum = splat(0.0f);
        for (int64_t block = 0; block < blocks_; ++block) {
            const Vec v = load_block(pixel, block);
            sum = fma(v, v, sum);
        }
        return sum;
    }

    // Scales a run of depths; returns the correction, its terms added up lane by lane.
    Vec scale(int64_t pixel, float scale, int64_t run) const
    {
        const int64_t run_blocks = depth_ < long_depth ? blocks_ : sum_depth / lanes;
        Vec sum = splat(0.0f);
        for (int64_t block = run * run_blocks; block < smaller((run + 1) * run_blocks, blocks_); ++block) {
            const Vec v = mul(load_block(pixel, block), splat(scale));
            store(scaled_ + block * scaled_plane_ + pixel * lanes, v);
            sum = fma(v, mul(swap_neighbours(v), block < whole_ ? whole_signs_ : rest_signs_), sum);
        }
        return sum;
    }

private:
    // Zero in the lanes past the last depth, whatever is in memory.
    Vec load_block(int64_t pixel, int64_t block) const
    {
        const float* from = x_ + block * x_plane_ + pixel * lanes;
        return block < whole_ ? load(from) : load_first(from, depth_ % lanes);
    }

    int64_t depth_, blocks_, whole_, x_plane_, scaled_plane_;
    const float* x_;
    float* scaled_;
    Vec whole_signs_, rest_signs_;
};

// Scales so many consecutive pixels of x into `scaled`, which may be x itself; facts: pair_fact_floats of room. As many pixels
// at a time as there are lanes, whose sums over lanes then take three instructions a pixel instead of eight.
PairPixels scale_pixels(int64_t depth, int64_t pixels, const float* x, int64_t x_plane, float* scaled, int64_t scaled_plane,
                        float* facts)
{
    float *const unscale = facts, *const corrections = facts + pixels;
    const PixelBlocks blocks(depth, x, x_plane, scaled, scaled_plane);
    bool has_odd = false;
    const float per_depth = 1.0f / static_cast<float>(depth);
    alignas(64) float rows[lanes][lanes] = {}, squares[lanes], scales[lanes];
    for (int64_t first = 0; first < pixels; first += lanes) {
        const int64_t count = smaller(lanes, pixels - first);
        for (int64_t i = 0; i < count; ++i) store(rows[i], blocks.squares(first + i));
        store(squares, sum_rows(rows));
        for (int64_t i = 0; i < count; ++i) {
            const PixelScale by(squares[i] * per_depth);
            scales[i] = by.scale;
            unscale[first + i] = by.unscale;
            has_odd |= by.unscale == 0.0f;
        }
        for (int64_t run = 0; run < runs_of(depth); ++run) {
            for (int64_t i = 0; i < count; ++i) store(rows[i], blocks.scale(first + i, scales[i], run));
            store_first(corrections + run * pixels + first, sum_rows(rows), count);
        }
    }
    return {scaled, scaled_plane, corrections, pixels, unscale, has_odd};
}

#else

constexpr bool has_pair_product = false;

// No weights are packed in pairs for this instruction set.
MNV2_INLINE PairPixels scale_pixels(int64_t, int64_t, const Stored*, int64_t, Stored*, int64_t, float*)
{
    return {};
}

#endif

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
