#include "cpu/int8/packing.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace mnv2::cpu::int8 {
namespace {

constexpr double most_byte = 255;

// A panel's factors of one channel.
void put_factors(const ConvolutionWeights& weights, int64_t channel, float* factors, int64_t width)
{
    factors[0] = weights.multiplier[channel];
    factors[width] = weights.bias[channel];
    if (weights.shortcut) factors[2 * width] = weights.shortcut[channel];
}

// Weights of an instruction set's type.
class WeightsOut {
public:
    WeightsOut(void* data, const Format& format) : data_(data), is_wide_(format.weight_bytes == 2) {}

    void put(int64_t index, int8_t weight) const
    {
        if (is_wide_)
            static_cast<int16_t*>(data_)[index] = weight;
        else
            static_cast<int8_t*>(data_)[index] = weight;
    }

private:
    void* data_;
    bool is_wide_;
};

// Panels of a layer whose depth k is weight[channel][source(k)]; source returns -1 for a depth that only fills a step.
template <class Source>
void pack_panels(const ConvolutionWeights& weights, int64_t depth, int64_t steps, int64_t out_channels, const Format& format,
                 char* packed, const Source& source)
{
    for (int64_t block = 0; block < block_count(out_channels); ++block) {
        const int64_t width = block_width(out_channels, block);
        auto* const factors = reinterpret_cast<float*>(packed);
        const WeightsOut out(packed + factor_bytes(3, width, format), format);
        for (int64_t lane = 0; lane < width; ++lane) {
            const int64_t channel = block * block_channels + pointwise_channel(lane, width, format);
            if (channel >= out_channels) continue;
            put_factors(weights, channel, factors + lane, width);
            int32_t start = 0;
            for (int64_t k = 0; k < steps * format.depths; ++k) {
                const int64_t from = source(k);
                if (from < 0) continue;
                const int8_t weight = weights.weight[channel * depth + from];
                out.put(pointwise_index(lane, k, steps, width, format), weight);
                start += pointwise_offset(k, format) * weight;
            }
            if (format.has_starts) std::memcpy(factors + 3 * width + lane, &start, sizeof start);
        }
        packed += panel_bytes(steps, width, format);
    }
}

void pack_pointwise(const ConvolutionWeights& weights, int64_t in_channels, int64_t out_channels, const Format& format,
                    char* packed)
{
    pack_panels(weights, in_channels, steps_of(in_channels, format), out_channels, format, packed,
                [&](int64_t k) { return k < in_channels ? k : -1; });
}

void pack_depthwise(const ConvolutionWeights& weights, int64_t channels, const Format& format, char* packed)
{
    for (int64_t block = 0; block < block_count(channels); ++block) {
        const int64_t width = block_width(channels, block);
        auto* const factors = reinterpret_cast<float*>(packed);
        const WeightsOut out(packed + factor_bytes(2, width, format), format);
        for (int64_t lane = 0; lane < width; ++lane) {
            const int64_t channel = block * block_channels + depthwise_channel(lane, width, format);
            if (channel >= channels) continue;
            factors[lane] = weights.multiplier[channel];
            factors[width + lane] = weights.bias[channel];
            int32_t start = 0;
            for (int64_t tap = 0; tap < kernel_taps; ++tap) {
                const int8_t weight = weights.weight[channel * kernel_taps + tap];
                out.put(depthwise_index(lane, tap % kernel_size, tap / kernel_size, width, format), weight);
                start += depthwise_offset(tap / kernel_size, format) * weight;
            }
            if (format.has_starts) std::memcpy(factors + 2 * width + lane, &start, sizeof start);
        }
        packed += depthwise_bytes(width, format);
    }
}

template <class Params>
char* cleared(const Params& params, const Format& format, void* packed)
{
    std::memset(packed, 0, static_cast<size_t>(packed_bytes(params, format)));
    return static_cast<char*>(packed);
}

}  // namespace

BlockOffsets block_offsets(const InvertedResidualParams& params, const Format& format)
{
    const auto pointwise_bytes = [&](int64_t in_channels, int64_t out_channels) {
        return panels_bytes(steps_of(in_channels, format), out_channels, format);
    };
    BlockOffsets offsets{};
    offsets.depthwise = params.has_expand ? pointwise_bytes(params.in_channels, params.expanded_channels) : 0;
    offsets.project = offsets.depthwise + depthwise_bytes(params.expanded_channels, format);
    offsets.end = offsets.project + pointwise_bytes(params.expanded_channels, params.out_channels);
    return offsets;
}

int64_t packed_bytes(const InvertedResidualParams& params, const Format& format)
{
    return block_offsets(params, format).end;
}

int64_t packed_bytes(const StemParams& params, const Format& format)
{
    return stem_panels + stem_panel_bytes(params.in_channels, padded_channels(params.out_channels), format);
}

int64_t packed_bytes(const HeadPoolParams& params, const Format& format)
{
    return head_panels + panels_bytes(steps_of(params.in_channels, format), params.out_channels, format);
}

int64_t packed_bytes(const LinearParams& params, const Format& format)
{
    return panels_bytes(steps_of(params.in_features, format), params.out_features, format);
}

void pack_block(const InvertedResidualParams& params, const ConvolutionWeights& expand, const ConvolutionWeights& depthwise,
                const ConvolutionWeights& project, const Format& format, void* packed)
{
    char* const bytes = cleared(params, format, packed);
    const BlockOffsets offsets = block_offsets(params, format);
    if (params.has_expand) pack_pointwise(expand, params.in_channels, params.expanded_channels, format, bytes + offsets.expand);
    pack_depthwise(depthwise, params.expanded_channels, format, bytes + offsets.depthwise);
    pack_pointwise(project, params.expanded_channels, params.out_channels, format, bytes + offsets.project);
}

void pack_stem(const StemParams& params, const ConvolutionWeights& weights, const ImageGrid& image, const Format& format,
               void* packed)
{
    char* const bytes = cleared(params, format, packed);
    std::memcpy(bytes, image.pad, static_cast<size_t>(params.in_channels));
    auto* const factors = reinterpret_cast<float*>(bytes + stem_factors);
    std::transform(image.scale, image.scale + params.in_channels, factors, [](float scale) { return 1.0f / scale; });
    std::copy_n(image.zero_point, params.in_channels, reinterpret_cast<float*>(bytes + stem_zero_points));
    const int64_t pixel_depths = pixel_words(params.in_channels) * word_bytes;
    pack_panels(weights, kernel_taps * params.in_channels, stem_steps(params.in_channels, format), params.out_channels,
                stem_format(format), bytes + stem_panels, [&](int64_t k) {
                    const int64_t tap = k / pixel_depths, channel = k % pixel_depths;
                    return channel < params.in_channels ? channel * kernel_taps + tap : -1;
                });
}

void pack_head_pool(const HeadPoolParams& params, const ConvolutionWeights& weights, float pool, const Format& format,
                    void* packed)
{
    char* const bytes = cleared(params, format, packed);
    std::memcpy(bytes, &pool, sizeof pool);
    pack_pointwise(weights, params.in_channels, params.out_channels, format, bytes + head_panels);
}

void pack_linear(const LinearParams& params, const ConvolutionWeights& weights, const Format& format, void* packed)
{
    Format in_order = format;
    in_order.vector_lanes = 1;  // results are floats, which nothing narrows
    pack_pointwise(weights, params.in_features, params.out_features, in_order, cleared(params, format, packed));
}

bool stays_in_int32(const ConvolutionWeights& weights, int64_t depth, int64_t channels)
{
    constexpr double limit = 2147483520.0;  // the last float32 below 2^31
    for (int64_t channel = 0; channel < channels; ++channel) {
        double most = 0;
        for (int64_t k = 0; k < depth; ++k) most += most_byte * std::abs(weights.weight[channel * depth + k]);
        double result = most * std::fabs(weights.multiplier[channel]) + std::fabs(weights.bias[channel]);
        if (weights.shortcut) result += most_byte * std::fabs(weights.shortcut[channel]);
        if (!(most <= limit && result <= limit)) return false;
    }
    return true;
}

}  // namespace mnv2::cpu::int8
