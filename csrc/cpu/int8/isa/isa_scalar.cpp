// Any processor, a number at a time. A fused multiply-add without an instruction for it is a call: this is slow, but right.
#define MNV2_ISA scalar

#include <cstdint>

#include "core/sizes.h"
#include "cpu/int8/isa/isa.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/simd/load_row-inl.h"
#include "cpu/int8/simd/peak-inl.h"

namespace mnv2::cpu::int8 {
namespace scalar {
namespace {

constexpr int64_t step_depths = format_of(Isa::scalar).depths;

uint8_t to_byte(float y)
{
    const float low = y < 0.0f ? 0.0f : y;
    return static_cast<uint8_t>(__builtin_rintf(low > 255.0f ? 255.0f : low));
}

// Factors of a lane: M, then B and R, a width apart.
float scaled(int32_t sum, const float* factors, int64_t width)
{
    return __builtin_fmaf(static_cast<float>(sum), factors[0], factors[width]);
}

int32_t dot(int32_t sum, const uint8_t* x, const int8_t* weights)
{
    for (int64_t k = 0; k < step_depths; ++k) sum += x[k] * weights[k];
    return sum;
}

// A lane's sum over the depths of a pixel.
int32_t sum_of(const Pixels& x, int64_t pixel, const int8_t* weights, int64_t width)
{
    int32_t sum = 0;
    for (int64_t block = 0; block < block_count(x.channels); ++block) {
        const uint8_t* values = x.data + block * x.plane + pixel * x.width(x.channels - block * block_channels);
        for (int64_t k = block * block_channels; k < x.channels && k < (block + 1) * block_channels; k += step_depths) {
            sum = dot(sum, values, weights);
            values += step_depths;
            weights += width * step_depths;
        }
    }
    return sum;
}

const float* factors_of(const uint8_t* packed)
{
    return reinterpret_cast<const float*>(packed);
}

const int8_t* weights_of(const uint8_t* panel, int64_t width)
{
    return reinterpret_cast<const int8_t*>(panel) + panel_bytes(0, width, format_of(Isa::scalar));
}

void pointwise(const PointwiseRun& run)
{
    const float* const factors = factors_of(run.panel);
    const int8_t* const weights = weights_of(run.panel, run.width);
    for (int64_t pixel = 0; pixel < run.rows * run.columns; ++pixel) {
        const int64_t to = pixel / run.columns * run.y_pitch + pixel % run.columns * run.y_width;
        for (int64_t lane = 0; lane < run.y_width; ++lane) {
            float y =
                scaled(sum_of(run.x, run.first + pixel, weights + lane * step_depths, run.width), factors + lane, run.width);
            if (run.shortcut) y = __builtin_fmaf(run.shortcut[to + lane], factors[2 * run.width + lane], y);
            run.y[to + lane] = to_byte(y);
        }
    }
}

void linear(const LinearRun& run)
{
    const int8_t* const weights = weights_of(run.panel, run.width);
    for (int64_t pixel = 0; pixel < run.pixels; ++pixel)
        for (int64_t lane = 0; lane < run.width; ++lane)
            run.y[pixel * run.width + lane] =
                scaled(sum_of(run.x, pixel, weights + lane * step_depths, run.width), factors_of(run.panel) + lane, run.width);
}

void depthwise(const DepthwiseRun& run)
{
    const float* const factors = factors_of(run.packed);
    const auto* const weights = reinterpret_cast<const int8_t*>(factors + 2 * run.width);
    for (int64_t column = 0; column < run.columns; ++column)
        for (int64_t lane = 0; lane < run.width; ++lane) {
            int32_t sum = 0;
            for (int64_t ky = 0; ky < kernel_size; ++ky)
                for (int64_t kx = 0; kx < kernel_size; ++kx)
                    sum +=
                        run.rows[ky][(column * run.stride + kx) * run.width + lane] * weights[(kx * run.width + lane) * 4 + ky];
            run.y[column * run.width + lane] = to_byte(scaled(sum, factors + lane, run.width));
        }
}

void stem(const StemRun& run)
{
    const int64_t words = kernel_size * run.words;  // of a window's row
    for (int64_t column = 0; column < run.columns; ++column)
        for (int64_t lane = 0; lane < run.y_width; ++lane) {
            const int8_t* weights = weights_of(run.panel, run.width) + lane * step_depths;
            int32_t sum = 0;
            for (int64_t ky = 0; ky < kernel_size; ++ky) {
                const uint8_t* x = run.rows[ky] + column * run.stride * run.words * step_depths;
                for (int64_t word = 0; word < words; ++word, x += step_depths, weights += run.width * step_depths)
                    sum = dot(sum, x, weights);
            }
            run.y[column * run.y_width + lane] = to_byte(scaled(sum, factors_of(run.panel) + lane, run.width));
        }
}

void pool(const PoolRun& run)
{
    for (int64_t channel = 0; channel < run.width; ++channel) {
        int32_t sum = 0;
        for (int64_t pixel = 0; pixel < run.pixels; ++pixel) sum += run.x[pixel * run.width + channel];
        run.y[channel] = to_byte(static_cast<float>(sum) * run.factor);
    }
}

struct Dot {
    using Vec = int32_t;
    static constexpr int products = 1;

    static MNV2_INLINE Vec splat(int32_t value) { return value; }
    static MNV2_INLINE void step(Vec& sum, Vec& x, Vec weights)
    {
        MNV2_OPAQUE(x);  // or the compiler would compute one product for all
        sum += x * weights;
    }
    static MNV2_INLINE int32_t first(Vec sum) { return sum; }
};

}  // namespace
}  // namespace scalar

const Kernels scalar_kernels{format_of(Isa::scalar), scalar::pointwise, scalar::linear, scalar::depthwise,
                             scalar::stem,           scalar::load_row,  scalar::pool,   scalar::burst_of<scalar::Dot>};

}  // namespace mnv2::cpu::int8
