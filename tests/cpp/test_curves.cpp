// Activations that are no clamp, number by number: how far from the truth, and the same bits on every instruction set.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "isas.h"
#include "operators.h"

namespace mnv2::test {
namespace {

// Numbers of every exponent and both signs, subnormal ones, infinity and NaN.
std::vector<float> many_floats()
{
    constexpr uint32_t step = 40009;  // a prime number
    std::vector<float> floats = {0.0f, -0.0f, -88.0f, -88.7f, -88.8f, 88.0f, 3e38f, -3e38f, INFINITY, -INFINITY};
    for (uint64_t bits = 0; bits <= std::numeric_limits<uint32_t>::max(); bits += step) {
        const auto number = static_cast<uint32_t>(bits);
        std::memcpy(&floats.emplace_back(), &number, sizeof number);
    }
    return floats;
}

// Each number by itself through a linear layer of one weight, which is 1.
std::vector<float> activated(const std::vector<float>& x, Activation activation, const cpu::Kernels& kernels)
{
    const LinearParams params{static_cast<int64_t>(x.size()), 1, 1, activation};
    const Convolution one = constant_convolution(1, 1, 1.0f);
    const auto packed =
        packed_by(params, kernels.layout, [&](void* to) { pack_linear(params, one.view(), kernels.layout, to); });
    std::vector<float> y(x.size());
    launch(params, {x.data(), ScalarType::float32, 1, 1, 1, 1}, packed.data(), y.data(), {});
    return y;
}

double silu_of(double x)
{
    return x / (1 + std::exp(-x));
}

// The unit in the last place of float32 at a number.
double last_place(double number)
{
    constexpr int fraction_bits = 23, least_exponent = -126;
    const int exponent = number == 0 ? least_exponent : std::max(std::ilogb(number), least_exponent);
    return std::ldexp(1.0, exponent - fraction_bits);
}

TEST(silu_is_within_two_units_in_the_last_place)
{
    const std::vector<float> x = many_floats();
    for_each_isa([&](const cpu::Kernels& kernels) {
        const std::vector<float> y = activated(x, Activation::silu, kernels);
        size_t wrong = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            const double truth = silu_of(x[i]);
            if (std::isnan(truth))
                wrong += !std::isnan(y[i]);
            else if (x[i] < -88.7f)
                wrong += std::fabs(y[i] - truth) > least_silu;
            else
                wrong += !(y[i] == truth || std::fabs(y[i] - truth) <= 2 * last_place(truth));
        }
        CHECK_EQUAL(wrong, size_t{0});
    });
}

TEST(silu_has_the_same_bits_on_every_instruction_set)
{
    const std::vector<float> x = many_floats();
    std::vector<float> first;
    for_each_isa([&](const cpu::Kernels& kernels) {
        const std::vector<float> y = activated(x, Activation::silu, kernels);
        if (first.empty()) first = y;
        size_t other = 0;
        for (size_t i = 0; i < x.size(); ++i)
            other += std::isnan(first[i]) ? !std::isnan(y[i]) : std::memcmp(&first[i], &y[i], sizeof(float)) != 0;
        CHECK_EQUAL(other, size_t{0});
    });
}

TEST(hardswish_is_the_number_itself_from_three_on)
{
    const std::vector<float> x = many_floats();
    for_each_isa([&](const cpu::Kernels& kernels) {
        const std::vector<float> y = activated(x, Activation::hardswish, kernels);
        size_t wrong = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            if (x[i] >= 3.0f) wrong += y[i] != x[i];
            if (x[i] <= -3.0f && std::isfinite(x[i])) wrong += y[i] != 0.0f;
            if (std::isnan(x[i]) || x[i] == -INFINITY) wrong += !std::isnan(y[i]);
        }
        CHECK_EQUAL(wrong, size_t{0});
    });
}

}  // namespace
}  // namespace mnv2::test
