// 16-bit floats on their way into and out of the kernels, every one of them, on every instruction set: through blocks that
// compute nothing.
#include <cmath>
#include <cstdint>
#include <vector>

#include "block_cases.h"
#include "isas.h"
#include "numbers.h"
#include "operators.h"

#define MNV2_ISA test_half
#include "core/half-inl.h"

namespace mnv2::test {
namespace {

constexpr ScalarType half_types[] = {ScalarType::float16, ScalarType::bfloat16};
constexpr int64_t patterns = 0x10000;

template <class Body>
void for_each_isa_and_type(const Body& body)
{
    for (const ScalarType type : half_types)
        for_each_isa(type, [&](const cpu::Kernels& kernels) {
            const Scope scope(name_of(type));
            body(kernels, type);
        });
}

// The project's result is -0, the only number that the shortcut's value passes unchanged, whatever x is: infinity becomes 6,
// and 6 or 0 times 0 is 0.
BlockWeights shortcut_only(int64_t channels)
{
    const auto size = static_cast<size_t>(channels);
    return {{},
            constant_convolution(channels, kernel_taps, 1.0f),
            {std::vector<float>(size * size, 0.0f), std::vector<float>(size, -1.0f), std::vector<float>(size, -0.0f)}};
}

// What comes out of a block that only adds its input, for one pixel images of those patterns.
std::vector<uint16_t> passed(const cpu::Kernels& kernels, ScalarType type, const std::vector<uint16_t>& x, int64_t channels,
                             bool interleaved)
{
    InvertedResidualParams params = with_residual(without_expand(block({1, 1}, channels, 0, 0)));
    params.batch = static_cast<int64_t>(x.size()) / channels;
    const std::vector<uint8_t> packed = pack(params, shortcut_only(channels), kernels.layout);
    std::vector<uint16_t> y(x.size(), 0xc5c5);
    // Channels that do not lie side by side are loaded one by one.
    const InputView view =
        interleaved ? InputView{x.data(), type, 1, params.batch, 1, 1} : InputView{x.data(), type, channels, 1, 1, 1};
    launch(params, view, packed.data(), y.data(), {});
    return y;
}

TEST(every_number_passes_unchanged)
{
    for_each_isa_and_type([&](const cpu::Kernels& kernels, ScalarType type) {
        for (const int64_t channels : {int64_t{1}, int64_t{3}, int64_t{16}, int64_t{33}}) {
            const Scope scope(name_of(type), ", channels ", channels);
            std::vector<uint16_t> x;
            for (int64_t bits = 0; bits < patterns; ++bits)
                if (!std::isnan(decode(type, static_cast<uint16_t>(bits)))) x.push_back(static_cast<uint16_t>(bits));
            while (x.size() % static_cast<size_t>(channels)) x.push_back(0);
            CHECK(passed(kernels, type, x, channels, false) == x);
        }
    });
}

// The same values in another order, whose channels lie apart.
TEST(every_number_passes_unchanged_one_by_one)
{
    for_each_isa_and_type([&](const cpu::Kernels& kernels, ScalarType type) {
        constexpr size_t channels = 16, images = patterns / channels;
        std::vector<uint16_t> x(patterns), expected(patterns);
        for (size_t i = 0; i < x.size(); ++i) {
            const auto bits = static_cast<uint16_t>(i);
            x[i] = expected[i % images * channels + i / images] = std::isnan(decode(type, bits)) ? uint16_t{0} : bits;
        }
        CHECK(passed(kernels, type, x, channels, true) == expected);
    });
}

TEST(not_a_number_stays_not_a_number)
{
    for_each_isa_and_type([&](const cpu::Kernels& kernels, ScalarType type) {
        for (const int64_t channels : {1, 16}) {
            const auto count = static_cast<size_t>(channels);
            std::vector<uint16_t> x;
            for (int64_t bits = 0; bits < patterns; ++bits)
                if (std::isnan(decode(type, static_cast<uint16_t>(bits))))
                    x.insert(x.end(), count, static_cast<uint16_t>(bits));
            int64_t numbers = 0;
            for (const uint16_t bits : passed(kernels, type, x, channels, false)) numbers += !std::isnan(decode(type, bits));
            CHECK_EQUAL(numbers, 0);
        }
    });
}

// Every number of the type, the middle between it and the next one, and what lies just below and above each, with both signs.
std::vector<float> near_ties(ScalarType type)
{
    std::vector<float> values = {INFINITY, -INFINITY, std::numeric_limits<float>::max(),
                                 std::numeric_limits<float>::denorm_min()};
    const double largest = format_of(type).largest,
                 step = largest - decode(type, static_cast<uint16_t>(encode(type, largest) - 1));
    for (int bits = 0; decode(type, static_cast<uint16_t>(bits)) <= largest; ++bits) {
        const double here = decode(type, static_cast<uint16_t>(bits));
        const double next = here < largest ? decode(type, static_cast<uint16_t>(bits + 1)) : largest + step;
        for (const double value : {here, (here + next) / 2}) {
            const auto exact = static_cast<float>(value);
            for (const float near : {exact, std::nextafter(exact, 0.0f), std::nextafter(exact, INFINITY)}) {
                values.push_back(near);
                values.push_back(-near);
            }
        }
    }
    return values;
}

// The values as results: one pixel with a channel for each, whose bias it is.
std::vector<uint16_t> stored(const cpu::Kernels& kernels, ScalarType type, const std::vector<float>& values)
{
    const auto channels = static_cast<int64_t>(values.size());
    const InvertedResidualParams params = without_expand(block({1, 1}, 1, 0, channels));
    const Convolution zero{std::vector<float>(values.size(), 0.0f), std::vector<float>(values.size(), -1.0f), values};
    const std::vector<uint8_t> packed =
        pack(params, BlockWeights{{}, constant_convolution(1, kernel_taps, 0.0f), zero}, kernels.layout);
    const uint16_t x = 0;
    std::vector<uint16_t> y(values.size(), 0xc5c5);
    launch(params, {&x, type, 1, 1, 1, 1}, packed.data(), y.data(), {});
    return y;
}

void check_stored(const cpu::Kernels& kernels, ScalarType type, const std::vector<float>& values)
{
    const std::vector<uint16_t> got = stored(kernels, type, values);
    for (size_t i = 0; i < values.size(); ++i) {
        if (got[i] == encode(type, round_to(type, values[i]))) continue;
        const Scope scope(name_of(type), " of ", values[i]);
        CHECK_EQUAL(got[i], encode(type, round_to(type, values[i])));
    }
    CHECK_EQUAL(got.size(), values.size());
}

TEST(results_round_to_nearest_even)
{
    for_each_isa_and_type([&](const cpu::Kernels& kernels, ScalarType type) { check_stored(kernels, type, near_ties(type)); });
}

// Fewer results than a vector holds are rounded one by one.
TEST(results_round_to_nearest_even_one_by_one)
{
    for_each_isa_and_type([&](const cpu::Kernels& kernels, ScalarType type) {
        const std::vector<float> values = near_ties(type);
        constexpr size_t apart = 97;  // coprime to the values' period of twelve
        for (size_t i = 0; i + 3 <= values.size(); i += apart)
            check_stored(kernels, type, {values[i], values[i + 1], values[i + 2]});
    });
}

// Not even where rounding its payload would carry into the sign.
TEST(results_that_are_not_a_number)
{
    using namespace cpu::test_half;
    constexpr uint32_t payloads[] = {0x7fffffffu, 0xffffffffu, 0x7fffe000u, 0x7fc00001u, 0xffc00000u};
    std::vector<float> many;
    for (size_t i = 0; i < 25; ++i) many.push_back(float_of(payloads[i % 5]));
    const std::vector<float> few(many.begin(), many.begin() + 3);
    for_each_isa_and_type([&](const cpu::Kernels& kernels, ScalarType type) {
        for (const std::vector<float>& results : {many, few})
            for (const uint16_t bits : stored(kernels, type, results)) CHECK(std::isnan(decode(type, bits)));
    });
}

// The conversions themselves, for what blocks never make: signalling NaN, and NaN with a payload that the shorter format
// cannot hold.
TEST(conversions_keep_not_a_number)
{
    using namespace cpu::test_half;
    for (const uint32_t bits : {0x7f800001u, 0x7f801fffu, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffc00001u}) {
        Half half;
        BFloat16 bfloat16;
        from_float(float_of(bits), &half);
        from_float(float_of(bits), &bfloat16);
        CHECK(std::isnan(decode(ScalarType::float16, half.bits)));
        CHECK(std::isnan(decode(ScalarType::bfloat16, bfloat16.bits)));
        CHECK(std::isnan(to_float(half)));
        CHECK(std::isnan(to_float(bfloat16)));
    }
}

}  // namespace
}  // namespace mnv2::test
