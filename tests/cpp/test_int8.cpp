// int8 layers on every instruction set: equal to plain loops to the bit, with guard pages on both sides of every buffer.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "block_cases.h"
#include "cases.h"
#include "check.h"
#include "core/layer_chain.h"
#include "cpu/int8/block.h"
#include "cpu/int8/chain.h"
#include "cpu/int8/isa/dispatch.h"
#include "cpu/int8/packing.h"
#include "cpu/int8/served.h"
#include "cpu/isa/features.h"
#include "guarded.h"
#include "int8_other_builds.h"
#include "int8_reference.h"
#include "isas.h"
#include "operators.h"
#include "shapes.h"
#include "tensors.h"
#include "threads.h"

namespace mnv2::test {
namespace {

namespace int8 = cpu::int8;

// --- random layers ---

Random seeded(const std::string& text)
{
    return Random(static_cast<Random::result_type>(std::hash<std::string>()(text)));
}

int64_t random_number(Random& random, int64_t low, int64_t high)
{
    return std::uniform_int_distribution<int64_t>(low, high)(random);
}

float random_real(Random& random, float low, float high)
{
    return std::uniform_real_distribution<float>(low, high)(random);
}

// Results spread over more than a byte's range, so that some saturate at either end.
Int8Convolution random_convolution(Random& random, int64_t depth, int64_t channels, bool has_shortcut = false)
{
    Int8Convolution conv;
    for (int64_t i = 0; i < depth * channels; ++i) conv.weight.push_back(static_cast<int8_t>(random_number(random, -128, 127)));
    const float typical_sum = std::sqrt(static_cast<float>(depth)) * 74 * 147;
    for (int64_t channel = 0; channel < channels; ++channel) {
        conv.multiplier.push_back(random_real(random, 20, 200) / typical_sum);
        conv.bias.push_back(random_real(random, 0, 255));
        if (has_shortcut) conv.shortcut.push_back(random_real(random, 0.2f, 1.5f));
    }
    return conv;
}

std::vector<uint8_t> random_bytes(Random& random, size_t count)
{
    std::vector<uint8_t> bytes(count);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_number(random, 0, 255));
    return bytes;
}

ByteImage random_image(Random& random, int64_t height, int64_t width, int64_t channels)
{
    ByteImage image(height, width, channels);
    image.at = random_bytes(random, image.at.size());
    return image;
}

Int8Block random_weights(Random& random, const InvertedResidualParams& params)
{
    return {params.has_expand ? random_convolution(random, params.in_channels, params.expanded_channels) : Int8Convolution(),
            random_convolution(random, kernel_taps, params.expanded_channels),
            random_convolution(random, params.expanded_channels, params.out_channels, params.has_residual)};
}

Int8Stem random_weights(Random& random, const StemParams& params)
{
    return {random_convolution(random, kernel_taps * params.in_channels, params.out_channels),
            random_bytes(random, static_cast<size_t>(params.in_channels))};
}

Int8Head random_weights(Random& random, const HeadPoolParams& params)
{
    return {random_convolution(random, params.in_channels, params.out_channels), random_real(random, 0.5f, 1.5f)};
}

Int8Convolution random_weights(Random& random, const LinearParams& params)
{
    return random_convolution(random, params.in_features, params.out_features);
}

// --- packed ---

// What an image's bytes stand for in floats, which then hold them exactly.
constexpr float image_scale = 0.125f, image_zero_point = 100.25f;

template <class Params>
std::vector<uint8_t> room_for(const Params& params, const int8::Format& format)
{
    return std::vector<uint8_t>(static_cast<size_t>(int8::packed_bytes(params, format)), 0xee);
}

std::vector<uint8_t> pack(const InvertedResidualParams& params, const Int8Block& weights, const int8::Format& format)
{
    auto packed = room_for(params, format);
    int8::pack_block(params, weights.expand.view(), weights.depthwise.view(), weights.project.view(), format, packed.data());
    return packed;
}

std::vector<uint8_t> pack(const StemParams& params, const Int8Stem& weights, const int8::Format& format)
{
    auto packed = room_for(params, format);
    const auto channels = static_cast<size_t>(params.in_channels);
    const std::vector<float> scale(channels, image_scale), zero_point(channels, image_zero_point);
    int8::pack_stem(params, weights.convolution.view(), {weights.outside.data(), scale.data(), zero_point.data()}, format,
                    packed.data());
    return packed;
}

std::vector<uint8_t> pack(const HeadPoolParams& params, const Int8Head& weights, const int8::Format& format)
{
    auto packed = room_for(params, format);
    int8::pack_head_pool(params, weights.convolution.view(), weights.pool, format, packed.data());
    return packed;
}

std::vector<uint8_t> pack(const LinearParams& params, const Int8Convolution& weights, const int8::Format& format)
{
    auto packed = room_for(params, format);
    int8::pack_linear(params, weights.view(), format, packed.data());
    return packed;
}

// --- layers in guarded memory ---

// Every instruction set that this machine runs, forced in turn, and other builds of those that it does not.
template <class Body>
void for_each_int8_isa(const Body& body)
{
    const auto run = [&](const char* name, const int8::Kernels& kernels) {
        const Scope scope(name);
        for (const Placement placement : placements) body(kernels, placement);
    };
    for (const cpu::IsaState& isa : int8::isa_states()) {
        if (!isa.compiled || !isa.supported) continue;
        const ForcedIsa forced(isa.name);
        const int8::Kernels& kernels = int8::select_kernels();
        CHECK_EQUAL(std::string(kernels.format.name), std::string(isa.name));
        run(isa.name, kernels);
    }
#if MNV2_HAVE_OTHER_INT8_BUILDS
    if (!cpu::supports_avx512_vnni()) return;
    run("avx_vnni by AVX-512's encoding", avx_vnni_evex);
    run("amx_int8 by emulated tiles", amx_int8_emulated);
#endif
}

size_t blocked_size(int64_t channels, int64_t pixels)
{
    return static_cast<size_t>(int8::blocked_bytes(channels, pixels));
}

// Channels that fill a block hold what no result may depend on.
class GuardedImage {
public:
    GuardedImage(const ByteImage& from, Placement placement) : GuardedImage(from.channels, from.height * from.width, placement)
    {
        const int8::ImageView view{from.at.data(), 0, 1, from.width * from.channels, from.channels};
        int8::load_image(view, from.channels, from.height, from.width, image());
    }
    GuardedImage(int64_t channels, int64_t pixels, Placement placement)
        : memory_(std::vector<uint8_t>(blocked_size(channels, pixels), 0xa5), placement), channels_(channels), pixels_(pixels)
    {
    }

    int8::BlockedImage image() const { return {static_cast<uint8_t*>(memory_.data()), int8::plane_bytes(pixels_)}; }
    std::vector<uint8_t> values() const
    {
        std::vector<uint8_t> all(static_cast<size_t>(channels_ * pixels_));
        int8::store_image(image(), channels_, pixels_, all.data());
        return all;
    }

private:
    GuardedBuffer memory_;
    int64_t channels_, pixels_;
};

GuardedBuffer scratch_of(int64_t bytes, Placement placement)
{
    constexpr int64_t line = 64;
    return GuardedBuffer(std::vector<uint8_t>(static_cast<size_t>((bytes + line - 1) / line * line), 0xff), placement);
}

uint8_t* bytes_of(const GuardedBuffer& buffer)
{
    return static_cast<uint8_t*>(buffer.data());
}

void check_same(const std::vector<uint8_t>& got, const std::vector<uint8_t>& expected)
{
    CHECK_EQUAL(got.size(), expected.size());
    for (size_t i = 0; i < got.size() && i < expected.size(); ++i) {
        if (got[i] == expected[i]) continue;
        const Scope scope("value ", i, " of ", got.size());
        CHECK_EQUAL(int{got[i]}, int{expected[i]});
        return;
    }
}

// A strided tensor of a few images that ends, or begins, at a guard page.
struct StridedImages {
    Strides strides;
    std::vector<uint8_t> bytes;

    StridedImages(Random& random, Layout layout, int64_t batch, int64_t height, int64_t width, int64_t channels)
        : strides(strides_of(layout, height, width, channels))
    {
        const int64_t last =
            (batch - 1) * strides.n + (channels - 1) * strides.c + (height - 1) * strides.h + (width - 1) * strides.w;
        bytes = random_bytes(random, static_cast<size_t>(last + 1));
    }
    ByteImage image(int64_t n, int64_t height, int64_t width, int64_t channels) const
    {
        ByteImage image(height, width, channels);
        for (int64_t row = 0; row < height; ++row)
            for (int64_t column = 0; column < width; ++column)
                for (int64_t channel = 0; channel < channels; ++channel)
                    image.value(row, column, channel) =
                        bytes[static_cast<size_t>(n * strides.n + channel * strides.c + row * strides.h + column * strides.w)];
        return image;
    }
    int8::ImageView view(const GuardedBuffer& buffer) const
    {
        return {bytes_of(buffer), strides.n, strides.c, strides.h, strides.w};
    }
    // The bytes of the same in floats.
    std::vector<uint8_t> floats() const
    {
        std::vector<uint8_t> all(bytes.size() * sizeof(float));
        for (size_t i = 0; i < bytes.size(); ++i) {
            const float real = image_scale * (static_cast<float>(bytes[i]) - image_zero_point);
            std::memcpy(all.data() + i * sizeof real, &real, sizeof real);
        }
        return all;
    }
    int8::ImageView view_of_floats(const GuardedBuffer& buffer) const
    {
        constexpr int64_t size = sizeof(float);
        return {bytes_of(buffer), size * strides.n, size * strides.c, size * strides.h, size * strides.w, true};
    }
};

// The segments of three tasks, last one first.
template <class Body>
void for_each_segment(const Body& body)
{
    constexpr int64_t count = 3;
    for (int64_t index = count; index-- > 0;) body(int8::Segment{index, count});
}

// --- one layer ---

void check_block(const InvertedResidualParams& params, const ByteImage& x, const Int8Block& weights)
{
    const ByteImage expected = reference(params, x, weights);
    for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
        const GuardedBuffer packed(pack(params, weights, kernels.format), placement);
        const GuardedImage input(x, placement), y(params.out_channels, params.out_height() * params.out_width(), placement);
        const GuardedBuffer scratch = scratch_of(int8::block_scratch_bytes(params), placement);
        const GuardedBuffer depthwise_out = scratch_of(int8::depthwise_out_bytes(params), placement);
        if (int8::is_by_rows(params)) {
            for_each_segment([&](const int8::Segment& segment) {
                int8::run_block_rows(kernels, params, bytes_of(packed), input.image(), y.image(), segment, bytes_of(scratch));
            });
        } else {
            for_each_segment([&](const int8::Segment& segment) {
                int8::run_expand_and_depthwise(kernels, params, bytes_of(packed), input.image(), bytes_of(depthwise_out),
                                               segment, bytes_of(scratch));
            });
            for_each_segment([&](const int8::Segment& segment) {
                int8::run_project(kernels, params, bytes_of(packed), bytes_of(depthwise_out), input.image(), y.image(),
                                  segment);
            });
        }
        check_same(y.values(), expected.at);
    });
}

void check_block(const InvertedResidualParams& params)
{
    if (!is_sampled()) return;
    const Scope scope(describe(params));
    Random random = seeded(describe(params));
    const Int8Block weights = random_weights(random, params);
    check_block(params, random_image(random, params.height, params.width, params.in_channels), weights);
}

void check_stem(const StemParams& params, Layout layout = Layout::nchw)
{
    if (!is_sampled()) return;
    const Scope scope(describe(params), ", layout ", static_cast<int>(layout));
    Random random = seeded(describe(params));
    const Int8Stem weights = random_weights(random, params);
    const StridedImages images(random, layout, 1, params.height, params.width, params.in_channels);
    const ByteImage expected = reference(params, images.image(0, params.height, params.width, params.in_channels), weights);
    for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
        const GuardedBuffer packed(pack(params, weights, kernels.format), placement), x(images.bytes, placement);
        const GuardedBuffer floats(images.floats(), placement);
        for (const int8::ImageView& view : {images.view(x), images.view_of_floats(floats)}) {
            const GuardedImage y(params.out_channels, params.out_height() * params.out_width(), placement);
            const GuardedBuffer scratch = scratch_of(int8::stem_scratch_bytes(params), placement);
            for_each_segment([&](const int8::Segment& segment) {
                int8::run_stem(kernels, params, bytes_of(packed), view, y.image(), segment, bytes_of(scratch));
            });
            check_same(y.values(), expected.at);
        }
    });
}

void check_head(const HeadPoolParams& params, float pool_factor = 1)
{
    if (!is_sampled()) return;
    const Scope scope(describe(params));
    Random random = seeded(describe(params));
    Int8Head weights = random_weights(random, params);
    weights.pool *= pool_factor;
    const ByteImage x = random_image(random, params.height, params.width, params.in_channels);
    const ByteImage expected = reference(params, x, weights);
    for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
        const GuardedBuffer packed(pack(params, weights, kernels.format), placement);
        const GuardedImage input(x, placement), y(params.out_channels, 1, placement);
        const GuardedBuffer scratch = scratch_of(int8::head_scratch_bytes(params), placement);
        for_each_segment([&](const int8::Segment& segment) {
            int8::run_head_pool(kernels, params, bytes_of(packed), input.image(), y.image(), 0, segment, bytes_of(scratch));
        });
        check_same(y.values(), expected.at);
    });
}

void check_linear(int64_t in_features, int64_t out_features)
{
    if (!is_sampled()) return;
    const Scope scope("linear ", in_features, " -> ", out_features);
    Random random = seeded(join("linear", in_features, out_features));
    const LinearParams params{1, in_features, out_features};
    const Int8Convolution weights = random_weights(random, params);
    const ByteImage x = random_image(random, 1, 1, in_features);
    const std::vector<float> expected = reference(params, x, weights);
    for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
        const GuardedBuffer packed(pack(params, weights, kernels.format), placement);
        const GuardedImage input(x, placement);
        const GuardedBuffer y(expected.size() * sizeof(float), placement);
        const GuardedBuffer scratch = scratch_of(int8::linear_scratch_bytes(params), placement);
        for_each_segment([&](const int8::Segment& segment) {
            int8::run_linear(kernels, params, bytes_of(packed), input.image(), 1, y.floats(), segment, bytes_of(scratch));
        });
        CHECK(std::equal(expected.begin(), expected.end(), y.floats()));
    });
}

StemParams stem_of(Size size, int64_t in_channels, int64_t out_channels, int32_t stride)
{
    StemParams params{};
    params.batch = 1;
    params.height = size.height;
    params.width = size.width;
    params.in_channels = in_channels;
    params.out_channels = out_channels;
    params.stride = stride;
    return params;
}

HeadPoolParams head_of(Size size, int64_t in_channels, int64_t out_channels)
{
    HeadPoolParams params = test::head_of(in_channels, out_channels);
    params.batch = 1;
    params.height = size.height;
    params.width = size.width;
    return params;
}

// --- MobileNetV2 ---

struct Stage {
    int64_t factor, channels, blocks;
    int32_t stride;
};
constexpr Stage stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                            {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

std::vector<InvertedResidualParams> network_blocks(Size size)
{
    std::vector<InvertedResidualParams> blocks;
    int64_t in_channels = 32;
    for (const Stage& stage : stages)
        for (int64_t i = 0; i < stage.blocks; ++i) {
            InvertedResidualParams params = block(size, in_channels, in_channels * stage.factor, stage.channels);
            params.stride = i ? 1 : stage.stride;
            params.has_expand = stage.factor > 1;
            params.has_residual = allows_residual(params);
            blocks.push_back(params);
            in_channels = stage.channels;
        }
    return blocks;
}

TEST(every_block_of_the_network)
{
    const std::vector<InvertedResidualParams> blocks = network_blocks({8, 9});
    for (const InvertedResidualParams& params : blocks) check_block(params);
    CHECK_EQUAL(blocks.size(), size_t{17});
}

// Large enough for a ring of rows.
TEST(blocks_by_rows)
{
    for (const InvertedResidualParams& params : network_blocks({33, 30}))
        if (params.in_channels <= 24) check_block(params);
    for (const Padding& padding : {Padding{0, 1, 0, 1}, Padding{1, 0, 1, 0}})
        for (const int32_t stride : {1, 2}) {
            InvertedResidualParams params = block({45, 27}, 5, 70, 9);
            params.stride = stride;
            params.padding = padding;
            check_block(params);
            check_block(without_expand(params));
        }
    check_block(with_residual(block({4, 300}, 17, 90, 0)));
    check_block(with_residual(block({300, 4}, 17, 20, 0)));
}

TEST(blocks_that_differ_in_everything)
{
    int served = 0;
    for (const InvertedResidualParams& params : varied_blocks()) {
        if (find_unserved({{params, false}}, int8::served_options)) continue;
        check_block(params);
        ++served;
    }
    CHECK_EQUAL(served, 7);
}

TEST(every_combination_of_channels)
{
    for (const int64_t in : channel_counts)
        for (const int64_t out : channel_counts) {
            check_block(block({3, 4}, in, in + out, out));
            check_block(with_residual(block({2, 3}, in, out, 0)));
        }
}

TEST(every_remainder_of_channels)
{
    for (int64_t channels = 1; channels <= 70; ++channels) {
        check_block(with_residual(block({3, 3}, channels, 72 - channels, 0)));
        check_block(without_expand(block({3, 3}, channels, 0, 7)));
    }
}

TEST(every_size_stride_and_padding)
{
    for (const Size& size : sizes)
        for (const int32_t stride : {1, 2})
            for (const Padding& padding : paddings()) {
                InvertedResidualParams params = block(size, 6, 40, 20);
                params.stride = stride;
                params.padding = padding;
                if (has_output(params)) check_block(params);
            }
}

TEST(same_padding_of_every_size)
{
    for (int64_t size = 1; size <= 9; ++size) {
        InvertedResidualParams params = block({size, size + 3}, 6, 40, 20);
        params.stride = 2;
        params.padding = same_padding(params.height, params.width, params.stride);
        check_block(params);
    }
}

// A tile's height follows from the number of pixels; the tallest has 28.
TEST(every_tile_height)
{
    for (int64_t width = 1; width <= 60; ++width)
        for (const int64_t channels : {9, 30, 50}) check_block(with_residual(block({1, width}, channels, channels + 2, 0)));
}

TEST(stems)
{
    for (const int64_t in : {1, 2, 3, 4, 5, 9, 64})
        for (const int64_t out : {3, 16, 24, 32, 48, 100})
            for (const int32_t stride : {1, 2}) check_stem(stem_of({5, 6}, in, out, stride));
    for (const Size& size : sizes)
        for (const int32_t stride : {1, 2})
            for (const Padding& padding : paddings()) {
                StemParams params = stem_of(size, 3, 24, stride);
                params.padding = padding;
                if (has_output(params)) check_stem(params, Layout::nhwc);
            }
    for (const Layout layout : layouts)
        for (const int64_t in : {1, 3, 5}) check_stem(stem_of({9, 21}, in, 32, 2), layout);
    for (int64_t width = 1; width <= 60; ++width) check_stem(stem_of({2, width}, 3, 32, 2));
}

TEST(heads)
{
    for (const Size& size : sizes)
        for (const int64_t in : {7, 40, 160}) check_head(head_of(size, in, 100));
    check_head(head_of({7, 7}, 320, 1280));
    check_head(head_of({40, 40}, 5, 20));  // sums of more than 16 bits
    check_head(head_of({7, 7}, 64, 64), 100);
    check_head(head_of({7, 7}, 64, 64), 0);
    check_head(head_of({7, 7}, 64, 64), 1e12f);
}

TEST(linear_layers)
{
    for (const int64_t in : channel_counts)
        for (const int64_t out : channel_counts) check_linear(in, out);
    check_linear(1280, 1000);
}

// --- the arithmetic's corners ---

// One weight a channel, everything else zero: results are what B and M make of known sums.
Int8Convolution diagonal(int64_t channels, int8_t weight, float multiplier, float bias)
{
    Int8Convolution conv;
    conv.weight.assign(static_cast<size_t>(channels * channels), 0);
    for (int64_t i = 0; i < channels; ++i) conv.weight[static_cast<size_t>(i * channels + i)] = weight;
    conv.multiplier.assign(static_cast<size_t>(channels), multiplier);
    conv.bias.assign(static_cast<size_t>(channels), bias);
    return conv;
}

// A depthwise layer that hands its input on.
Int8Convolution unchanged(int64_t channels)
{
    Int8Convolution conv;
    conv.weight.assign(static_cast<size_t>(channels * kernel_taps), 0);
    for (int64_t i = 0; i < channels; ++i) conv.weight[static_cast<size_t>(i * kernel_taps + 4)] = 1;
    conv.multiplier.assign(static_cast<size_t>(channels), 1.0f);
    conv.bias.assign(static_cast<size_t>(channels), 0.0f);
    return conv;
}

TEST(rounding_saturation_and_zero_points)
{
    constexpr int64_t channels = 72;
    Random random = seeded("corners");
    InvertedResidualParams params = with_residual(block({4, 5}, channels, channels, 0));
    const ByteImage x = random_image(random, 4, 5, channels);
    for (const float multiplier : {0.5f, -0.5f, 0.0f, 1.0f, 6e4f, -6e4f, 1e-30f})
        for (const float bias : {0.0f, 0.5f, 255.0f, 255.5f, -0.5f, 1e8f, -1e8f, 126.5f})
            for (const int weight : {1, -1, 127, -128}) {
                const Scope scope("M ", multiplier, ", B ", bias, ", weight ", weight);
                Int8Block weights{diagonal(channels, static_cast<int8_t>(weight), multiplier, bias), unchanged(channels),
                                  diagonal(channels, static_cast<int8_t>(weight), multiplier, bias)};
                weights.project.shortcut.assign(static_cast<size_t>(channels), 0.25f);
                check_block(params, x, weights);
            }
}

// The largest sums that 1280 depths can have; float32 rounds them.
TEST(sums_above_24_bits)
{
    const LinearParams params{1, 1280, 65};
    ByteImage x(1, 1, 1280);
    for (const int weight : {127, -128, 125}) {
        std::fill(x.at.begin(), x.at.end(), uint8_t{255});
        x.at[3] = 254;
        Int8Convolution weights;
        weights.weight.assign(1280 * 65, static_cast<int8_t>(weight));
        weights.multiplier.assign(65, 1.0f);
        weights.bias.assign(65, 1.0f);
        const std::vector<float> expected = reference(params, x, weights);
        for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
            const GuardedBuffer packed(pack(params, weights, kernels.format), placement);
            const GuardedImage input(x, placement);
            std::vector<float> y(65), scratch(64);
            int8::run_linear(kernels, params, bytes_of(packed), input.image(), 1, y.data(), {},
                             reinterpret_cast<uint8_t*>(scratch.data()));
            CHECK(y == expected);
        });
    }
}

TEST(results_that_leave_32_bits_are_found)
{
    Int8Convolution conv = diagonal(3, 127, 1.0f, 0.0f);
    CHECK(int8::stays_in_int32(conv.view(), 3, 3));
    conv.multiplier[1] = 1e5f;
    CHECK(!int8::stays_in_int32(conv.view(), 3, 3));
    conv.multiplier[1] = NAN;
    CHECK(!int8::stays_in_int32(conv.view(), 3, 3));
    conv.multiplier[1] = 1.0f;
    conv.bias[2] = -3e9f;
    CHECK(!int8::stays_in_int32(conv.view(), 3, 3));
    conv.bias[2] = 0.0f;
    conv.shortcut = {0.0f, 1e8f, 0.0f};
    CHECK(!int8::stays_in_int32(conv.view(), 3, 3));
}

// --- chains ---

// A small network's layers with their weights.
struct SmallNetwork {
    static constexpr int64_t classes = 70;
    StemParams stem = stem_of({37, 26}, 3, 32, 2);
    std::vector<InvertedResidualParams> blocks = {without_expand(block({0, 0}, 32, 0, 16)), block({0, 0}, 16, 96, 24),
                                                  with_residual(block({0, 0}, 24, 144, 0))};
    HeadPoolParams head = test::head_of(24, 130);
    LinearParams linear{1, 130, classes};

    Int8Stem stem_weights;
    std::vector<Int8Block> block_weights;
    Int8Head head_weights;
    Int8Convolution linear_weights;

    explicit SmallNetwork(Random& random)
    {
        blocks[1].stride = 2;
        head.height = 10;
        head.width = 7;
        stem_weights = random_weights(random, stem);
        for (const auto& params : blocks) block_weights.push_back(random_weights(random, params));
        head_weights = random_weights(random, head);
        linear_weights = random_weights(random, linear);
    }

    std::vector<float> logits(const ByteImage& image) const
    {
        ByteImage x = reference(stem, image, stem_weights);
        for (size_t i = 0; i < blocks.size(); ++i) x = reference(blocks[i], x, block_weights[i]);
        return reference(linear, reference(head, x, head_weights), linear_weights);
    }
};

// Layers and their packed weights, one behind the other.
struct PackedChain {
    std::vector<uint8_t> packed;
    std::vector<NetworkLayer> layers;

    PackedChain(const SmallNetwork& network, const int8::Format& format, int64_t batch)
    {
        const auto add = [&](const auto& params, const auto& weights) {
            NetworkLayer& layer = layers.emplace_back();
            layer.params = params;
            layer.packed_at = static_cast<int64_t>(packed.size());
            const std::vector<uint8_t> bytes = pack(params, weights, format);
            packed.insert(packed.end(), bytes.begin(), bytes.end());
        };
        add(network.stem, network.stem_weights);
        for (size_t i = 0; i < network.blocks.size(); ++i) add(network.blocks[i], network.block_weights[i]);
        add(network.head, network.head_weights);
        add(network.linear, network.linear_weights);
        CHECK(set_image(layers, batch, network.stem.height, network.stem.width));
    }
};

TEST(chains_on_any_threads_give_the_bits_of_their_layers)
{
    constexpr int64_t batch = 5;
    Random random = seeded("chain");
    const SmallNetwork network(random);
    const StemParams& stem = network.stem;
    const StridedImages images(random, Layout::nchw, batch, stem.height, stem.width, stem.in_channels);
    std::vector<float> expected;
    for (int64_t n = 0; n < batch; ++n)
        for (const float logit : network.logits(images.image(n, stem.height, stem.width, stem.in_channels)))
            expected.push_back(logit);
    for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
        const PackedChain chain(network, kernels.format, batch);
        const GuardedBuffer packed(chain.packed, placement);
        const GuardedBuffer x(images.bytes, placement), y(expected.size() * sizeof(float), placement);
        for (const Parallel& parallel : thread_counts()) {
            std::fill_n(y.floats(), expected.size(), NAN);
            int8::run_chain(kernels, chain.layers, images.view(x), packed.data(), y.data(), parallel);
            CHECK(std::equal(expected.begin(), expected.end(), y.floats()));
        }
    });
}

// A chain may start and end anywhere.
TEST(parts_of_a_chain)
{
    Random random = seeded("parts");
    const SmallNetwork network(random);
    const StemParams& stem = network.stem;
    const StridedImages images(random, Layout::nhwc_slice, 2, stem.height, stem.width, stem.in_channels);
    for_each_int8_isa([&](const int8::Kernels& kernels, Placement placement) {
        const PackedChain chain(network, kernels.format, 2);
        const GuardedBuffer x(images.bytes, placement);
        std::vector<float> logits(2 * SmallNetwork::classes);
        int8::run_chain(kernels, chain.layers, images.view(x), chain.packed.data(), logits.data(), {});
        for (size_t cut = 1; cut < chain.layers.size(); ++cut) {
            const std::vector<NetworkLayer> front(chain.layers.begin(), chain.layers.begin() + static_cast<ptrdiff_t>(cut));
            const std::vector<NetworkLayer> back(chain.layers.begin() + static_cast<ptrdiff_t>(cut), chain.layers.end());
            const ImageSize size = result_size(front.back());
            const int64_t channels = channels_of(front.back().params).out, image = size.height * size.width * channels;
            const GuardedBuffer between(static_cast<size_t>(2 * image), placement);
            int8::run_chain(kernels, front, images.view(x), chain.packed.data(), between.data(), {});
            std::vector<float> y(logits.size());
            int8::run_chain(kernels, back, {bytes_of(between), image, 1, size.width * channels, channels}, chain.packed.data(),
                            y.data(), {});
            CHECK(y == logits);
        }
    });
}

TEST(weights_find_their_kernels_again)
{
    for (const cpu::IsaState& isa : int8::isa_states()) {
        if (!isa.compiled || !isa.supported) continue;
        const ForcedIsa forced(isa.name);
        CHECK(&int8::kernels_for(int8::select_kernels().format.isa) == &int8::select_kernels());
    }
}

}  // namespace
}  // namespace mnv2::test
