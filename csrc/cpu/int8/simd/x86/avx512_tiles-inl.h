// Linear layers, the stem and what pointwise layers share with them: tiles of MR pixels by 16, 32 or 64 channels, whose sums
// are registers. Activations are broadcast to a register, which costs no arithmetic port; weights may be memory operands.
#pragma once

#include <cstdint>

#include "cpu/int8/kernels.h"
#include "cpu/int8/simd/x86/avx512_registers-inl.h"
#include "cpu/simd/macros.h"

namespace mnv2::cpu::int8::MNV2_ISA {
namespace {

constexpr int register_lanes = 16;
constexpr int register_count = 32;
constexpr int64_t step_depths = 4;

enum class End { bytes, shortcut, floats };

struct Tile {
    int mr, vectors;
    End end;
    bool is_narrow = false;  // whether fewer bytes of a pixel are stored than it has channels

    constexpr int width() const { return vectors * register_lanes; }
    // A last vector of weights is read from memory where sums and weights would take more registers than there are.
    constexpr int weight_registers() const { return mr * vectors + vectors + 1 > register_count ? vectors - 1 : vectors; }
};

template <Tile TILE>
struct Sums {
    __m512i at[TILE.mr][TILE.vectors];
};

// GCC takes equal constants for copies of one another, and spills them: each sum has a zero of its own.
template <Tile TILE>
MNV2_INLINE void clear(Sums<TILE>& sums)
{
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v) __asm__ volatile("vpxord %0, %0, %0" : "=v"(sums.at[m][v]));
}

MNV2_INLINE void dot_memory(__m512i& sum, __m512i x, const uint8_t* weights)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "m"(*reinterpret_cast<const __m512i*>(weights)));
}

MNV2_INLINE __m512i broadcast_word(const uint8_t* x)
{
    int32_t word;
    __builtin_memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

// Four depths; x: the first pixel's, `pitch` bytes from the next one's.
template <Tile TILE, class Pitch>
MNV2_INLINE void add_step(Sums<TILE>& sums, const uint8_t* x, Pitch pitch, const uint8_t* weights)
{
    constexpr int registers = TILE.weight_registers();
    __m512i loaded[TILE.vectors];
    MNV2_UNROLL
    for (int v = 0; v < registers; ++v) loaded[v] = _mm512_loadu_si512(weights + 64 * v);
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) {
        const __m512i word = broadcast_word(x + m * pitch);
        MNV2_UNROLL
        for (int v = 0; v < TILE.vectors; ++v) {
            if (v < registers)
                dot(sums.at[m][v], word, loaded[v]);
            else
                dot_memory(sums.at[m][v], word, weights + 64 * v);
        }
    }
}

template <int BYTES>
struct Fixed {
    MNV2_INLINE constexpr operator int64_t() const { return BYTES; }
};

// Steps of a block whose pixels are `width` bytes wide; returns the weights behind them.
template <Tile TILE, class Width>
MNV2_INLINE const uint8_t* add_steps(Sums<TILE>& sums, const uint8_t* block, int64_t pixel, Width width, int64_t steps,
                                     const uint8_t* weights)
{
    const uint8_t* x = block + pixel * width;
#pragma GCC unroll 1
    for (; steps > 0; --steps, x += step_depths, weights += step_depths * TILE.width()) add_step(sums, x, width, weights);
    return weights;
}

// What a panel's tiles fetch of the memory behind it: the next panel or the next layer's weights. Each fetches as many lines
// for 64 depths as together make up a panel; beyond the last layer nothing needs what is fetched, and nothing faults.
struct Ahead {
    const uint8_t* at = nullptr;
    int64_t lines = 0;

    MNV2_INLINE void fetch()
    {
#pragma GCC unroll 1
        for (int64_t line = 0; line < lines; ++line, at += 64) _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
    }
};

template <Tile TILE>
MNV2_INLINE void sum_pixels(Sums<TILE>& sums, const Pixels& x, int64_t pixel, const uint8_t* weights, Ahead& ahead)
{
    const uint8_t* block = x.data;
    int64_t left = x.channels;
#pragma GCC unroll 1
    for (; left >= 64; left -= 64, block += x.plane) {
        ahead.fetch();
        weights = add_steps(sums, block, pixel, Fixed<64>(), 16, weights);
    }
    if (left == 0) return;
    ahead.fetch();
    const int64_t steps = divide_up(left, step_depths);
    if (x.last_width == 32)
        add_steps(sums, block, pixel, Fixed<32>(), steps, weights);
    else if (x.last_width == 16)
        add_steps(sums, block, pixel, Fixed<16>(), steps, weights);
    else
        add_steps(sums, block, pixel, x.last_width, steps, weights);
}

// --- what becomes of sums ---

// Bytes of a pixel's shortcut on their way to the lanes of vector v, the others zero.
alignas(16) constexpr int8_t spread_of_four[4][16] = {{0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1},
                                                      {4, -1, -1, -1, 5, -1, -1, -1, 6, -1, -1, -1, 7, -1, -1, -1},
                                                      {8, -1, -1, -1, 9, -1, -1, -1, 10, -1, -1, -1, 11, -1, -1, -1},
                                                      {12, -1, -1, -1, 13, -1, -1, -1, 14, -1, -1, -1, 15, -1, -1, -1}};
alignas(16) constexpr int8_t spread_of_two[2][16] = {{0, -1, -1, -1, 1, -1, -1, -1, 4, -1, -1, -1, 5, -1, -1, -1},
                                                     {8, -1, -1, -1, 9, -1, -1, -1, 12, -1, -1, -1, 13, -1, -1, -1}};

MNV2_INLINE __m512i spread(__m512i bytes, const int8_t* indices)
{
    return _mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(indices))));
}

template <int VECTORS>
MNV2_INLINE __m512 load_shortcut(const uint8_t* x, int v)
{
    if constexpr (VECTORS == 4) return _mm512_cvtepi32_ps(spread(Bytes64::load(x), spread_of_four[v]));
    if constexpr (VECTORS == 2) return _mm512_cvtepi32_ps(spread(_mm512_cvtepu16_epi32(Bytes32::load(x)), spread_of_two[v]));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(Bytes16::load(x)));
}

template <Tile TILE>
MNV2_INLINE __m512 scaled(const Sums<TILE>& sums, int m, int v, const float* factors)
{
    const float* const at = factors + register_lanes * v;
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.at[m][v]), _mm512_loadu_ps(at), _mm512_loadu_ps(at + TILE.width()));
}

// Rounded, not clamped. shortcut: the tile's first pixel.
template <Tile TILE, class Pitch>
MNV2_INLINE __m512i rounded(const Sums<TILE>& sums, int m, int v, const float* factors, const uint8_t* shortcut, Pitch pitch)
{
    __m512 y = scaled(sums, m, v, factors);
    if constexpr (TILE.end == End::shortcut)
        y = _mm512_fmadd_ps(load_shortcut<TILE.vectors>(shortcut + m * pitch, v),
                            _mm512_loadu_ps(factors + 2 * TILE.width() + register_lanes * v), y);
    return _mm512_cvtps_epi32(y);
}

// Bytes from a result to the next.
template <Tile TILE>
MNV2_INLINE auto pitch_of(int64_t y_width)
{
    if constexpr (TILE.is_narrow)
        return y_width;
    else
        return Fixed<TILE.width()>();
}

// Packing takes the bytes of 64 lanes: of one pixel, of two or of four, whose words then stand in this order. At the end of a
// tile a pixel is packed with itself.
alignas(64) constexpr int32_t order_of_two[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
alignas(64) constexpr int32_t order_of_four[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};

// The words of several packed pixels that are stored, in their order.
template <Tile TILE>
MNV2_INLINE __m512i order_of(int64_t y_width)
{
    const __m512i all = Bytes64::load(TILE.vectors == 2 ? order_of_two : order_of_four);
    if constexpr (!TILE.is_narrow) return all;
    const uint32_t words_of_pixel = (1u << y_width / 4) - 1, first_words = TILE.vectors == 2 ? 0x0101 : 0x1111;
    return _mm512_maskz_compress_epi32(static_cast<__mmask16>(first_words * words_of_pixel), all);
}

template <Tile TILE, class Pitch>
MNV2_INLINE void store_bytes(const Sums<TILE>& sums, const float* factors, uint8_t* y, const uint8_t* shortcut, Pitch pitch)
{
    constexpr int pixels = 4 / TILE.vectors;  // of a register of bytes
    const __m512i order = order_of<TILE>(pitch);
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; m += pixels) {
        const int stored = TILE.mr - m < pixels ? TILE.mr - m : pixels;
        __m512i lanes[4];
        MNV2_UNROLL
        for (int i = 0; i < 4; ++i) {
            const int pixel = i / TILE.vectors < stored ? i / TILE.vectors : 0;
            lanes[i] = rounded(sums, m + pixel, i % TILE.vectors, factors, shortcut, pitch);
        }
        __m512i bytes = Bytes64::pack16(Bytes64::pack32(lanes[0], lanes[1]), Bytes64::pack32(lanes[2], lanes[3]));
        if constexpr (pixels > 1) bytes = _mm512_permutexvar_epi32(order, bytes);
        uint8_t* const to = y + m * pitch;
        if (stored == pixels && !TILE.is_narrow)
            Bytes64::store(to, bytes);
        else
            _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1 << stored * pitch / 4) - 1), bytes);
    }
}

template <Tile TILE>
MNV2_INLINE const float* factors_of(const uint8_t* panel)
{
    return reinterpret_cast<const float*>(panel);
}

template <Tile TILE>
MNV2_INLINE const uint8_t* weights_of(const uint8_t* panel)
{
    return panel + 3 * float_bytes * TILE.width();
}

// --- layers ---

// Heights of tiles whose sums fill the registers, by their vectors; what is left of a row is done by lower tiles.
constexpr int max_mr(int vectors)
{
    return 28 / vectors;
}
constexpr int lower_mr = 7;

// Calls tiles<mr>(column, count) so that they cover a row. Its last tile may overlap the one before.
template <int MAX_MR, class Tiles>
MNV2_INLINE void cover(int64_t columns, const Tiles& tiles)
{
    const int64_t high = columns / MAX_MR, lower = columns % MAX_MR / lower_mr;
    if (high) tiles.template operator()<MAX_MR>(0, high);
    if (lower) tiles.template operator()<lower_mr>(high * MAX_MR, lower);
    const int64_t done = high * MAX_MR + lower * lower_mr;
    if (done == columns) return;
    if (done)
        tiles.template operator()<lower_mr>(columns - lower_mr, 1);
    else
        tiles.template operator()<1>(0, columns);
}

template <Tile TILE>
__attribute__((noinline)) void linear_tile(const LinearRun& run, int64_t pixel)
{
    Sums<TILE> sums;
    clear(sums);
    Ahead none;  // a panel that is read once is a plain stream, which processors follow by themselves
    sum_pixels(sums, run.x, pixel, weights_of<TILE>(run.panel), none);
    float* const y = run.y + pixel * TILE.width();
    MNV2_UNROLL
    for (int m = 0; m < TILE.mr; ++m) MNV2_UNROLL
    for (int v = 0; v < TILE.vectors; ++v)
        _mm512_storeu_ps(y + m * TILE.width() + register_lanes * v, scaled(sums, m, v, factors_of<TILE>(run.panel)));
}

// Four pixels have products enough to hide what their weights take from the second-level cache.
template <int VECTORS>
void linear_of_width(const LinearRun& run)
{
    constexpr Tile four{.mr = 4, .vectors = VECTORS, .end = End::floats}, one{.mr = 1, .vectors = VECTORS, .end = End::floats};
    int64_t pixel = 0;
    for (; pixel + four.mr <= run.pixels; pixel += four.mr) linear_tile<four>(run, pixel);
    for (; pixel < run.pixels; ++pixel) linear_tile<one>(run, pixel);
}

void linear(const LinearRun& run)
{
    if (run.width == 64) return linear_of_width<4>(run);
    if (run.width == 32) return linear_of_width<2>(run);
    linear_of_width<1>(run);
}

// Pixels of a window follow one another, so its rows are steps in a row. pitch: bytes from a result's window to the next.
template <Tile TILE, class Pitch>
__attribute__((noinline)) void stem_tiles(const StemRun& run, Pitch pitch, int64_t column, int64_t tiles)
{
    const int64_t words = kernel_size * run.words;
    const auto y_pitch = pitch_of<TILE>(run.y_width);
    int64_t at = column * pitch;
    uint8_t* y = run.y + column * y_pitch;
    for (; tiles > 0; --tiles, at += TILE.mr * pitch, y += TILE.mr * y_pitch) {
        Sums<TILE> sums;
        clear(sums);
        const uint8_t* weights = weights_of<TILE>(run.panel);
#pragma GCC unroll 1
        for (int64_t ky = 0; ky < kernel_size; ++ky) {
            const uint8_t* x = run.rows[ky] + at;
#pragma GCC unroll 1
            for (int64_t word = 0; word < words; ++word, x += step_depths, weights += step_depths * TILE.width())
                add_step(sums, x, pitch, weights);
        }
        store_bytes(sums, factors_of<TILE>(run.panel), y, nullptr, y_pitch);
    }
}

template <int VECTORS, bool IS_NARROW, class Pitch>
void stem_panel(const StemRun& run, Pitch pitch)
{
    cover<max_mr(VECTORS)>(run.columns, [&]<int MR>(int64_t column, int64_t tiles) {
        constexpr Tile tile{.mr = MR, .vectors = VECTORS, .end = End::bytes, .is_narrow = IS_NARROW};
        stem_tiles<tile>(run, pitch, column, tiles);
    });
}

template <int VECTORS>
void stem_of_width(const StemRun& run)
{
    constexpr int usual = 8;  // stride 2 and up to four channels
    const int64_t pitch = run.stride * run.words * step_depths;
    if (run.y_width < run.width) return stem_panel<VECTORS, true>(run, pitch);
    pitch == usual ? stem_panel<VECTORS, false>(run, Fixed<usual>()) : stem_panel<VECTORS, false>(run, pitch);
}

void stem(const StemRun& run)
{
    if (run.width == 64) return stem_of_width<4>(run);
    if (run.width == 32) return stem_of_width<2>(run);
    stem_of_width<1>(run);
}

}  // namespace
}  // namespace mnv2::cpu::int8::MNV2_ISA
