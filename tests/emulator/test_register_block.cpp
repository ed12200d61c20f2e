// The kernels of register_block.cu, on the host or, compiled by nvcc, on a GPU, against the block by its definition: no further
// from it than twice what a block of separate convolutions and BatchNorms, each rounded to the tensors' type, is itself.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "check.h"
#include "cuda/register_block.cu"
#include "emulator/device.h"
#include "numbers.h"
#include "reference.h"
#include "tensors.h"

namespace mnv2::test {
namespace {

constexpr int sm_count = 2;  // a few blocks that take several patches each
constexpr uint64_t schedules[] = {1, 2, 3};

struct Weights {
    Convolution expand, depthwise, project;
};

InvertedResidualParams block_of(int64_t in, int64_t out, int32_t stride, int64_t expanded)
{
    InvertedResidualParams params{};
    params.in_channels = in;
    params.expanded_channels = expanded;
    params.out_channels = out;
    params.stride = stride;
    params.has_residual = stride == 1 && in == out;
    return params;
}

const InvertedResidualParams early_blocks[] = {block_of(16, 24, 2, 96), block_of(24, 24, 1, 144), block_of(24, 32, 2, 144),
                                               block_of(32, 32, 1, 192), block_of(32, 64, 2, 192)};

Weights random_weights(Random& random, const InvertedResidualParams& params, ScalarType type)
{
    Weights weights{random_convolution(random, params.expanded_channels, params.in_channels),
                    random_convolution(random, params.expanded_channels, kernel_taps),
                    random_convolution(random, params.out_channels, params.expanded_channels)};
    for (Convolution* layer : {&weights.expand, &weights.depthwise, &weights.project})
        for (float& weight : layer->weight) weight = static_cast<float>(round_to(type, weight));
    return weights;
}

Image random_image(Random& random, const InvertedResidualParams& params, ScalarType type)
{
    Image image(params.batch, params.height, params.width, params.in_channels);
    std::normal_distribution<double> normal(0.2, 1.0);
    for (Bounded& value : image.at) value.value = round_to(type, normal(random));
    return image;
}

void round_image(Image& image, std::optional<ScalarType> type)
{
    if (!type) return;
    for (Bounded& value : image.at) value.value = round_to(*type, value.value);
}

// What comes of a convolution's sums: scale and bias, then the activation, rounded after each step where a type is given.
void normalise(Image& sums, const Convolution& layer, Activation activation, std::optional<ScalarType> type)
{
    round_image(sums, type);
    for (size_t i = 0; i < sums.at.size(); ++i) {
        const size_t channel = i % static_cast<size_t>(sums.channels);
        const double scale = layer.scale.empty() ? 1.0 : layer.scale[channel];
        const double bias = layer.bias.empty() ? 0.0 : layer.bias[channel];
        sums.at[i].value = sums.at[i].value * scale + bias;
    }
    round_image(sums, type);
    for (Bounded& value : sums.at) value.value = activate(activation, value.value);
}

Convolution only_weight(const Convolution& layer)
{
    return {layer.weight, {}, {}};
}

// The block in double; with a type, as separate layers of that type compute it.
Image block(const InvertedResidualParams& params, const Weights& weights, const Image& x, std::optional<ScalarType> type)
{
    Image y = pointwise(x, only_weight(weights.expand), params.expanded_channels, Activation::none);
    normalise(y, weights.expand, params.activation, type);
    y = convolve(y, only_weight(weights.depthwise), params.expanded_channels, params.expanded_channels,
                 {params.stride, params.padding}, Activation::none);
    normalise(y, weights.depthwise, params.activation, type);
    y = pointwise(y, only_weight(weights.project), params.out_channels, Activation::none);
    normalise(y, weights.project, Activation::none, type);
    if (params.has_residual)
        for (size_t i = 0; i < y.at.size(); ++i) y.at[i].value += x.at[i].value;
    round_image(y, type);
    return y;
}

std::vector<uint16_t> encode_image(const Image& image, ScalarType type)
{
    std::vector<uint16_t> bits(image.at.size());
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = encode(type, image.at[i].value);
    return bits;
}

// The kernel's result under one schedule.
std::vector<uint16_t> run_kernel(const InvertedResidualParams& params, ScalarType type, const Weights& weights, const Image& x,
                                 uint64_t schedule)
{
    const int64_t bytes = cuda::register_block_bytes(params, type);
    CHECK(bytes > 0);
    std::vector<float> packed(static_cast<size_t>(bytes) / sizeof(float));
    CHECK(cuda::pack_register_block(params, type, weights.expand.view(), weights.depthwise.view(), weights.project.view(),
                                    packed.data()));
    const std::vector<uint16_t> input = encode_image(x, type);
    const int64_t outputs = params.batch * params.out_height() * params.out_width() * params.out_channels;
    constexpr uint16_t dead = 0xffff;  // a NaN
    std::vector<uint16_t> output(static_cast<size_t>(outputs), dead);

    DeviceBuffer device_packed(packed.data(), static_cast<size_t>(bytes));
    DeviceBuffer device_input(input.data(), input.size() * sizeof input[0]);
    DeviceBuffer device_output(output.data(), output.size() * sizeof output[0]);
    set_schedule(schedule);
    CHECK(
        cuda::register_block(params, type, device_input.data(), device_packed.data(), device_output.data(), sm_count, nullptr));
    device_output.copy_to(output.data());
    return output;
}

double largest_error(const std::vector<uint16_t>& got, const Image& expected, ScalarType type)
{
    double largest = 0.0;
    for (size_t i = 0; i < got.size(); ++i) {
        const double error = std::fabs(decode(type, got[i]) - expected.at[i].value);
        if (!(error <= largest)) largest = std::isnan(error) ? INFINITY : error;
    }
    return largest;
}

// Pools the errors of all images and weights, as a single small one may be lucky.
void check_accuracy(InvertedResidualParams params, ScalarType type, const std::vector<std::array<int64_t, 3>>& sizes)
{
    double fused = 0.0, separate = 0.0;
    for (const auto& [batch, height, width] : sizes) {
        params.batch = batch;
        params.height = height;
        params.width = width;
        Random random(static_cast<unsigned>(height * 31 + width));
        const Weights weights = random_weights(random, params, type);
        const Image x = random_image(random, params, type);
        const Image exact = block(params, weights, x, std::nullopt);
        const std::vector<uint16_t> got = run_kernel(params, type, weights, x, schedules[0]);
        fused = std::max(fused, largest_error(got, exact, type));
        separate = std::max(separate, largest_error(encode_image(block(params, weights, x, type), type), exact, type));
    }
    Scope scope("largest error ", fused, ", of separate layers ", separate);
    CHECK(fused <= 2.0 * separate);
}

const std::vector<std::array<int64_t, 3>> odd_sizes = {{3, 1, 1}, {2, 5, 7}, {1, 13, 11}, {1, 9, 16}, {2, 2, 3}};

TEST(every_early_block_is_accurate)
{
    for (const InvertedResidualParams& params : early_blocks)
        for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16}) {
            Scope scope(params.in_channels, " -> ", params.out_channels, " ", name_of(type));
            check_accuracy(params, type, odd_sizes);
        }
}

TEST(every_early_block_is_accurate_at_its_own_size)
{
    constexpr int64_t sizes[] = {112, 56, 56, 28, 28};
    for (size_t i = 0; i < std::size(sizes); ++i) {
        Scope scope(early_blocks[i].in_channels, " -> ", early_blocks[i].out_channels, " at ", sizes[i]);
        check_accuracy(early_blocks[i], ScalarType::float16, {{1, sizes[i], sizes[i]}});
    }
}

TEST(options_are_honoured)
{
    for (InvertedResidualParams params : early_blocks) {
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.has_residual = false;
        params.activation = Activation::relu;
        params.padding = {0, 0, 1, 1};
        params.expanded_channels = 51;  // no multiple of a step
        check_accuracy(params, ScalarType::float16, {{2, 5, 7}, {1, 13, 11}, {1, 4, 4}, {2, 6, 3}});
    }
}

TEST(every_schedule_gives_the_same_bits)
{
    for (InvertedResidualParams params : early_blocks) {
        Scope scope(params.in_channels, " -> ", params.out_channels);
        params.batch = 2;
        params.height = 12;
        params.width = 10;
        Random random(7);
        const Weights weights = random_weights(random, params, ScalarType::float16);
        const Image x = random_image(random, params, ScalarType::float16);
        const std::vector<uint16_t> first = run_kernel(params, ScalarType::float16, weights, x, schedules[0]);
        for (const uint64_t schedule : schedules) CHECK(run_kernel(params, ScalarType::float16, weights, x, schedule) == first);
    }
}

TEST(a_nan_reaches_its_neighbours_and_nothing_else)
{
    InvertedResidualParams params = early_blocks[1];
    params.batch = 1;
    params.height = params.width = 9;
    params.has_residual = false;
    Random random(3);
    const Weights weights = random_weights(random, params, ScalarType::float16);
    Image x = random_image(random, params, ScalarType::float16);
    x(0, 4, 5, 3).value = NAN;
    const std::vector<uint16_t> y = run_kernel(params, ScalarType::float16, weights, x, schedules[0]);
    for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
        const int64_t row = i / params.out_channels / 9, column = i / params.out_channels % 9;
        const bool near = std::abs(row - 4) <= 1 && std::abs(column - 5) <= 1;
        CHECK_EQUAL(std::isnan(decode(ScalarType::float16, y[static_cast<size_t>(i)])), near);
    }
}

TEST(other_blocks_are_refused)
{
    const auto refused = [](const InvertedResidualParams& params, ScalarType type) {
        return cuda::register_block_bytes(params, type) == 0 &&
               !cuda::register_block(params, type, nullptr, nullptr, nullptr, sm_count, nullptr);
    };
    InvertedResidualParams params = early_blocks[1];
    params.batch = params.height = params.width = 1;
    CHECK(refused(params, ScalarType::float32));
    CHECK(refused(block_of(64, 64, 1, 384), ScalarType::float16));
    CHECK(refused(block_of(24, 24, 2, 144), ScalarType::float16));
    InvertedResidualParams linear = params, activated = params, bare = params;
    linear.activation = Activation::none;
    activated.project_activation = Activation::relu6;
    bare.has_expand = false;
    for (const InvertedResidualParams& other : {linear, activated, bare}) CHECK(refused(other, ScalarType::float16));
}

}  // namespace
}  // namespace mnv2::test
