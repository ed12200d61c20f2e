// The pointwise microkernel by matrix tiles (Intel AMX): a register holds sixteen rows of sixteen float32 sums; an instruction
// adds the products of sixteen pixels by sixteen channels over thirty-two depths, as many as 512 vector multiply-adds, in
// sixteen cycles.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/simd/amx/tile_registers-inl.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

constexpr int tile_pixels = 16, tile_channels = 16;
constexpr int64_t row_bytes = 64;
// The weights of one vector of depths: two tiles of channels.
constexpr int64_t tile_weights = tile_pixels * row_bytes / static_cast<int64_t>(sizeof(BFloat16));
constexpr int64_t vector_weights = 2 * tile_weights;

// Registers 0 and 1 hold the first pixels' sums, 2 and 3 the second ones', 4 and 5 pixels, 6 and 7 weights. Shapes differ only
// in the rows of sums and pixels.
constexpr int first_of_weights = 6;

TileShapes shapes_of(int64_t pixels)
{
    TileShapes shapes;
    for (int tile = 0; tile < tile_count; ++tile)
        shapes.set(tile, tile < first_of_weights && pixels < tile_pixels ? pixels : tile_pixels, row_bytes);
    return shapes;
}

// The intrinsics do not say that they read and write memory.
MNV2_INLINE void order_memory()
{
    __asm__ volatile("" ::: "memory");
}

// One or two tiles of pixels, which may overlap.
template <int TILES>
struct PixelTiles {
    const BFloat16 *first, *second;
};

// sums += the products of one vector of depths.
template <int TILES>
MNV2_INLINE void add_vector(const PixelTiles<TILES>& x, const BFloat16* weights)
{
    _tile_loadd(4, x.first, row_bytes);
    _tile_loadd(6, weights, row_bytes);
    _tile_loadd(7, weights + tile_weights, row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (TILES == 2) {
        _tile_loadd(5, x.second, row_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

constexpr int64_t depth_vectors(int64_t depth)
{
    return divide_up(depth, lanes);
}

// Writes the tiles' sums, pixel behind pixel, a vector of channels each.
template <int TILES>
MNV2_INLINE void sum_pixels(const PointwiseLayer& layer, PixelTiles<TILES> x, const BFloat16* weights, float* sums)
{
    order_memory();
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (TILES == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t vectors = depth_vectors(layer.depth); vectors > 0; --vectors, weights += vector_weights) {
        add_vector(x, weights);
        x.first += layer.x_plane;
        x.second += layer.x_plane;
    }
    constexpr int64_t sums_bytes = lanes * sizeof(float);
    _tile_stored(0, sums, sums_bytes);
    _tile_stored(1, sums + tile_channels, sums_bytes);
    if constexpr (TILES == 2) {
        _tile_stored(2, sums + tile_pixels * lanes, sums_bytes);
        _tile_stored(3, sums + tile_pixels * lanes + tile_channels, sums_bytes);
    }
    order_memory();
}

// The weights of sixteen channels at depth k of a vector. tile: the first or the second sixteen.
MNV2_INLINE Register weights_at(const BFloat16* weights, int64_t k, int tile)
{
    const __m512i pairs = _mm512_loadu_si512(weights + tile * tile_weights + k / 2 * 2 * tile_channels);
    return _mm512_castsi512_ps(k % 2 ? _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))
                                     : _mm512_slli_epi32(pairs, 16));
}

// A pixel's sums by multiply-adds. In a tile infinity also meets the zeros behind the last depth, and the sum becomes NaN.
__attribute__((noinline)) Vec sum_by_multiply_adds(const PointwiseLayer& layer, const Stored* x, const BFloat16* weights)
{
    Vec sum = splat(0.0f);
    for (int64_t first = 0; first < layer.depth; first += lanes, x += layer.x_plane, weights += vector_weights) {
        float values[lanes];
        store(values, widen(x));
        const int64_t count = smaller(lanes, layer.depth - first);
        for (int64_t k = 0; k < count; ++k)
            fma_broadcast(sum, {weights_at(weights, k, 0), weights_at(weights, k, 1)}, values + k);
    }
    return sum;
}

// Computes sums that are NaN again.
__attribute__((noinline)) void mend_sums(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const BFloat16* weights,
                                         float* sums)
{
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        const Vec tiles = load(sums + pixel * lanes), plain = sum_by_multiply_adds(layer, x + pixel * lanes, weights);
        const auto mended = [](Register sum, Register other) {
            return _mm512_mask_mov_ps(sum, _mm512_cmp_ps_mask(sum, sum, _CMP_UNORD_Q), other);
        };
        store(sums + pixel * lanes, Vec{mended(tiles.low, plain.low), mended(tiles.high, plain.high)});
    }
}

// One vector of output channels in its panel.
struct VectorOfPanel {
    const float *scale, *bias;
    const BFloat16* weights;
    int64_t last_lanes;
};

// Returns whether a sum is NaN: the results must then be computed again.
template <Curve CURVE, bool HAS_RESIDUAL>
MNV2_INLINE bool finish_pixels(const VectorOfPanel& of, const Epilogue& epilogue, int64_t pixels, const float* sums, float* y,
                               const BFloat16* residual)
{
    const Vec scale = load(of.scale), bias = load(of.bias);
    const Vec low = splat(epilogue.clamp.low), high = splat(epilogue.clamp.high);
    __mmask16 is_nan = 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel, y += epilogue.y_pixel) {
        const Vec sum = load(sums + pixel * lanes);
        is_nan |= _mm512_cmp_ps_mask(sum.low, sum.high, _CMP_UNORD_Q);
        Vec result = apply_curve<CURVE>(clamp(fma(sum, scale, bias), low, high));
        if constexpr (HAS_RESIDUAL) result = add(result, widen(residual + pixel * lanes));
        if (of.last_lanes == lanes)
            store(y, result);
        else
            store_first(y, result, of.last_lanes);
    }
    return is_nan != 0;
}

// One vector of output channels at all pixels, a pair of tiles at a time.
class PointwiseVector {
public:
    PointwiseVector(const PointwiseLayer& layer, const VectorOfPanel& of, int64_t pixels, const BFloat16* x, float* y,
                    const BFloat16* residual)
        : layer_(layer), of_(of), pixels_(pixels), rows_(smaller(pixels, tile_pixels)), x_(x), y_(y), residual_(residual)
    {
    }

    void run()
    {
        constexpr int64_t pair = 2 * tile_pixels;
        alignas(64) float sums[pair * lanes];
        for (int64_t pixel = 0; pixel < pixels_; pixel += pair) {
            sum(pixel, sums);
            finish(first_of(pixel), sums);
            if (has_second(pixel)) finish(first_of(pixel + tile_pixels), sums + tile_pixels * lanes);
        }
    }

private:
    // The last tiles start early enough to be whole, and compute some pixels again.
    int64_t first_of(int64_t pixel) const { return smaller(pixel, pixels_ - rows_); }
    bool has_second(int64_t pixel) const { return first_of(pixel) < first_of(pixel + tile_pixels); }

    void sum(int64_t pixel, float* sums) const
    {
        const BFloat16 *first = x_ + first_of(pixel) * lanes, *second = x_ + first_of(pixel + tile_pixels) * lanes;
        if (has_second(pixel))
            sum_pixels(layer_, PixelTiles<2>{first, second}, of_.weights, sums);
        else
            sum_pixels(layer_, PixelTiles<1>{first, first}, of_.weights, sums);
    }

    void finish(int64_t pixel, float* sums) const
    {
        if (!finish_tile(pixel, sums)) return;
        mend_sums(layer_, rows_, x_ + pixel * lanes, of_.weights, sums);
        finish_tile(pixel, sums);
    }

    MNV2_INLINE bool finish_tile(int64_t pixel, const float* sums) const
    {
        const Epilogue& epilogue = layer_.epilogue;
        float* y = y_ + pixel * epilogue.y_pixel;
        bool has_nan = false;
        with_curve(epilogue.curve, [&]<Curve CURVE>() {
            has_nan = residual_ ? finish_pixels<CURVE, true>(of_, epilogue, rows_, sums, y, residual_ + pixel * lanes)
                                : finish_pixels<CURVE, false>(of_, epilogue, rows_, sums, y, nullptr);
        });
        return has_nan;
    }

    const PointwiseLayer& layer_;
    const VectorOfPanel& of_;
    int64_t pixels_, rows_;
    const BFloat16* x_;
    float* y_;
    const BFloat16* residual_;
};

template <int VECTORS>
void pointwise_panel(const PointwiseLayer& layer, int64_t pixels, const Stored* x, const float* panel, float* y,
                     int64_t last_lanes, const Stored* residual)
{
    const auto* weights = reinterpret_cast<const BFloat16*>(panel + 2 * lanes);
    const VectorOfPanel of{panel, panel + lanes, weights, is_curved(last_lanes) ? last_lanes - lanes : last_lanes};
    with_tile_registers(shapes_of(pixels), [&] { PointwiseVector(layer, of, pixels, x, y, residual).run(); });
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
