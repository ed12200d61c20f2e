// A case: an operator's shape and options, and how its input lies in memory. What a case promises is checked here: the
// reference's values, equal bits whoever runs it, and no access outside of a buffer.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "isas.h"
#include "operators.h"
#include "shapes.h"
#include "threads.h"

namespace mnv2::test {

template <class Params>
struct Case {
    Params params;
    ScalarType dtype = ScalarType::float32;
    Layout layout = Layout::nhwc;

    std::string description() const
    {
        return join(describe(params), ", ", name_of(dtype), ", layout ", static_cast<int>(layout));
    }
};

using Bytes = std::vector<uint8_t>;

// What a case computes with, made from random numbers that depend on nothing but the case.
template <class Params>
class Operation {
public:
    using Weights = decltype(random_weights(std::declval<Random&>(), std::declval<Params>()));

    explicit Operation(const Case<Params>& from)
        : Operation(from, Random(static_cast<Random::result_type>(std::hash<std::string>()(from.description()))))
    {
    }

    // Values that a case needs in particular.
    Operation(const Params& params, Weights weights, Tensor x)
        : params_(params),
          weights_(std::move(weights)),
          x_(std::move(x)),
          expected_(reference(params_, x_.image(), weights_, {}))
    {
    }

    const Params& params() const { return params_; }
    const Weights& weights() const { return weights_; }
    const Tensor& x() const { return x_; }

    // Through the entry point that users call; every buffer ends, or begins, at a guard page.
    Bytes run(const cpu::Kernels& kernels, Placement placement, const Parallel& parallel = {}) const
    {
        const Bytes packed = pack(params_, weights_, kernels.layout);
        CHECK(packed_isa(packed.data()) == kernels.layout.isa);
        const GuardedBuffer x(x_.bytes(), placement), guarded_packed(packed, placement), y(dead_result(), placement);
        launch(params_, x_.view(x.data()), guarded_packed.data(), y.data(), parallel);
        return result(y);
    }

    // By an instruction set's own function, in scratch that starts out as NaN.
    template <class Plan>
    Bytes run_planned(const cpu::Kernels& kernels, const Plan& plan, Placement placement) const
    {
        const Bytes packed = pack(params_, weights_, kernels.layout);
        const GuardedBuffer x(x_.bytes(), placement), guarded_packed(packed, placement), y(dead_result(), placement);
        const GuardedBuffer scratch(Bytes(static_cast<size_t>(plan.scratch_bytes), 0xff), placement);
        for (int64_t n = 0; n < params_.batch; ++n) {
            InputView image = x_.view(x.data());
            image.data = static_cast<const char*>(image.data) + n * image.stride_n * scalar_bytes(image.dtype);
            for (int64_t segment = 0; segment < segments_of(plan); ++segment)
                run_segment(kernels, params_, plan, image, packed_values(guarded_packed.data()),
                            static_cast<char*>(y.data()) + n * image_bytes(), segment, scratch.floats());
        }
        return result(y);
    }

    void check(const Bytes& y, const cpu::Kernels& kernels) const
    {
        const Image& expected = expected_of(kernels.layout);
        CHECK_EQUAL(static_cast<int64_t>(y.size()), params_.batch * image_bytes());
        CHECK_EQUAL(y.size(), expected.at.size() * static_cast<size_t>(scalar_bytes(x_.dtype())));
        size_t first_wrong = expected.at.size();
        for (size_t i = expected.at.size(); i-- > 0;)
            if (!agrees(value_at(y, i), expected.at[i], x_.dtype())) first_wrong = i;
        if (first_wrong == expected.at.size()) return;
        const Bounded& wanted = expected.at[first_wrong];
        const Scope scope("result ", first_wrong, ", not within ", wanted.error);
        CHECK_EQUAL(value_at(y, first_wrong), wanted.value);
    }

    double value_at(const Bytes& y, size_t index) const
    {
        return load_number(x_.dtype(), y.data(), static_cast<int64_t>(index));
    }

    int64_t image_bytes() const { return out_pixels(params_) * params_.out_channels * scalar_bytes(x_.dtype()); }

private:
    Operation(const Case<Params>& from, Random random)
        : Operation(from.params, random_weights(random, from.params),
                    Tensor::random(random, from.dtype, from.layout, from.params.batch, from.params.height, from.params.width,
                                   from.params.in_channels))
    {
    }

    Bytes dead_result() const { return Bytes(static_cast<size_t>(params_.batch * image_bytes()), dead_byte); }

    Bytes result(const GuardedBuffer& y) const
    {
        const auto* bytes = static_cast<const uint8_t*>(y.data());
        return Bytes(bytes, bytes + params_.batch * image_bytes());
    }

    // What that layout's arithmetic may give.
    const Image& expected_of(const PackLayout& layout) const
    {
        const ScalarType stored = layout.stored;
        if (stored == ScalarType::float32) return expected_;
        if (!expected_of_halves_)
            expected_of_halves_ = reference(params_, x_.image(), rounded_for(params_, weights_, stored), stored);
        return *expected_of_halves_;
    }

    Params params_;
    Weights weights_;
    Tensor x_;
    Image expected_;
    mutable std::optional<Image> expected_of_halves_;  // of x's type, which is the only one that such kernels take
};

// Whether to run a case: MNV2_TEST_SAMPLE=n runs one in n, since emulators are slow. A test's first case always runs.
inline bool is_sampled()
{
    static const char* const wanted = std::getenv("MNV2_TEST_SAMPLE");
    static const long every = wanted ? std::atol(wanted) : 1;
    static long cases = 0;
    return progress.checks == 0 || cases++ % every == 0;
}

template <class Params>
void check_with(const Operation<Params>& operation, const cpu::Kernels& kernels)
{
    const auto plan = plan_for(operation.params(), kernels.layout);
    const Bytes first = operation.run_planned(kernels, plan, Placement::ends_at_guard);
    operation.check(first, kernels);
    CHECK(operation.run_planned(kernels, plan, Placement::begins_at_guard) == first);
}

template <class Params>
void check_case_with(const Operation<Params>& operation, const cpu::Kernels& kernels)
{
    check_with(operation, kernels);
    const Bytes first = operation.run(kernels, Placement::ends_at_guard);
    operation.check(first, kernels);
    CHECK(operation.run(kernels, Placement::begins_at_guard) == first);
}

template <class Params>
void check_case(const Case<Params>& one)
{
    if (!is_sampled()) return;
    const Scope scope(one.description());
    const Operation<Params> operation(one);
    for_each_isa(one.dtype, [&](const cpu::Kernels& kernels) { check_case_with(operation, kernels); });
}

// Any number of threads, and each image by itself: the same bits.
template <class Params>
void check_equal_bits_with(const Operation<Params>& operation, const cpu::Kernels& kernels)
{
    const Bytes all = operation.run(kernels, Placement::ends_at_guard);
    operation.check(all, kernels);
    for (const Parallel& parallel : thread_counts()) CHECK(operation.run(kernels, Placement::ends_at_guard, parallel) == all);

    const Bytes packed = pack(operation.params(), operation.weights(), kernels.layout);
    Params alone = operation.params();
    alone.batch = 1;
    for (int64_t n = 0; n < operation.params().batch; ++n) {
        Bytes y(static_cast<size_t>(operation.image_bytes()), dead_byte);
        launch(alone, operation.x().view_from_image(n), packed.data(), y.data(), {});
        CHECK(y == Bytes(all.begin() + n * operation.image_bytes(), all.begin() + (n + 1) * operation.image_bytes()));
    }
}

template <class Params>
void check_equal_bits(const Case<Params>& one)
{
    if (!is_sampled()) return;
    const Scope scope(one.description());
    const Operation<Params> operation(one);
    for_each_isa(one.dtype, [&](const cpu::Kernels& kernels) { check_equal_bits_with(operation, kernels); });
}

// No image: nothing is read, nothing is written.
template <class Params>
void check_empty_batch(Params params)
{
    params.batch = 0;
    const Scope scope(describe(params));
    check_case(Case<Params>{params});
    for_each_isa([&](const cpu::Kernels& kernels) {
        Random random(1);
        const Bytes packed = pack(params, random_weights(random, params), kernels.layout);
        for (const Parallel& parallel : thread_counts())
            launch(params, {nullptr, ScalarType::float32, 0, 0, 0, 0}, packed.data(), nullptr, parallel);
    });
}

// A sum that keeps the ones beside a value of 2^24 only if it adds them up apart from it. Even and odd depths may be two such
// sums: an odd number of ones is rounded to the next even one.
template <class Params, class Weights>
void check_long_sum(const Params& params, const Weights& weights, const Tensor& x, int64_t ones, double rounding = 2.0)
{
    const Scope scope(describe(params));
    const Operation<Params> operation(params, weights, x);
    for_each_isa([&](const cpu::Kernels& kernels) {
        const double got = operation.value_at(operation.run(kernels, Placement::ends_at_guard), 0);
        CHECK(std::fabs(got - (0x1p24 + static_cast<double>(ones))) <= rounding);
    });
}

// One odd value in the last image's middle: it reaches what torch's convolutions let it reach, and nothing else. Calls
// body(operation) for each.
template <class Params, class Body>
void for_each_odd_value(const Params& params, Layout layout, const Body& body)
{
    constexpr double odd_values[] = {NAN, INFINITY, -INFINITY};
    for (const double odd : odd_values)
        for (const ScalarType dtype : dtypes) {
            if (!is_sampled()) continue;
            const Scope scope(describe(params), ", ", name_of(dtype), ", with ", odd);
            Random random(7);
            const auto weights = random_weights(random, params);
            Tensor x = Tensor::random(random, dtype, layout, params.batch, params.height, params.width, params.in_channels);
            x.set(params.batch - 1, params.height / 2, params.width / 2, params.in_channels - 1, odd);
            body(Operation<Params>(params, weights, x));
        }
}

template <class Params>
void check_odd_values(const Params& params, Layout layout)
{
    for_each_odd_value(params, layout, [](const Operation<Params>& operation) {
        for_each_isa(operation.x().dtype(), [&](const cpu::Kernels& kernels) { check_with(operation, kernels); });
    });
}

}  // namespace mnv2::test
