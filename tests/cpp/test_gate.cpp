// Blocks with a gate on every instruction set, through the entry point that users call: against the reference, with guard pages
// on both sides of every tensor.
#include <cmath>
#include <cstdint>
#include <vector>

#include "block_cases.h"

namespace mnv2::test {
namespace {

void check_gate(const BlockCase& one)
{
    if (!is_sampled()) return;
    const Scope scope(one.description());
    const Operation<InvertedResidualParams> operation(one);
    for_each_isa(one.dtype, [&](const cpu::Kernels& kernels) {
        const Bytes first = operation.run(kernels, Placement::ends_at_guard);
        operation.check(first, kernels);
        CHECK(operation.run(kernels, Placement::begins_at_guard) == first);
    });
}

TEST(every_combination_of_channels)
{
    for (const int64_t in : {1, 17, 24})
        for (const int64_t expanded : {1, 17, 51, 96, 200})
            for (const int64_t squeezed : {1, 4, 17, 33})
                for (const int64_t out : {1, 24, 51}) check_gate({gated(block({3, 4}, in, expanded, out), squeezed)});
}

TEST(every_kernel_stride_padding_and_size)
{
    for (const int32_t kernel : kernel_sizes)
        for (InvertedResidualParams params : {gated(block({}, 17, 40, 8), 5), gated(without_expand(block({}, 35, 0, 8)), 5)}) {
            params.kernel = kernel;
            for_each_window(params, [](const InvertedResidualParams& one) { check_gate({one}); });
        }
}

TEST(every_activation)
{
    for (const Activation squeeze : activations)
        for (const GateActivation excite : {GateActivation::sigmoid, GateActivation::hardsigmoid})
            for (const ScalarType dtype : dtypes)
                for (InvertedResidualParams params : varied_blocks()) {
                    params = gated(params, 9);
                    params.squeeze_activation = squeeze;
                    params.excite_activation = excite;
                    check_gate({params, dtype, Layout::nhwc_slice});
                }
}

// Images that take several strips, and means of many pixels.
TEST(larger_images)
{
    for (const ScalarType dtype : dtypes) {
        check_gate({gated(with_kernel(with_residual(block({57, 61}, 12, 72, 0)), 5), 8), dtype, Layout::nchw});
        check_gate({gated(strided(block({90, 113}, 16, 64, 24)), 4), dtype});
        check_gate({gated(with_residual(without_expand(block({70, 80}, 32, 0, 0))), 8), dtype});
    }
}

TEST(equal_bits_for_any_threads_and_batch)
{
    for (InvertedResidualParams params : varied_blocks())
        for (const ScalarType dtype : dtypes)
            for (const int64_t batch : {1, 3}) {
                params = gated(params, 10);
                params.batch = batch;
                check_equal_bits(BlockCase{params, dtype, Layout::nchw});
            }
}

// Caches of any size lead to plans within what the kernels can do.
TEST(equal_bits_for_every_cache)
{
    InvertedResidualParams params = gated(with_kernel(with_residual(block({33, 20}, 24, 144, 0)), 5), 6);
    const Operation<InvertedResidualParams> operation(BlockCase{params});
    for_each_isa([&](const cpu::Kernels& kernels) {
        const Bytes expected = operation.run(kernels, Placement::ends_at_guard);
        const Bytes packed = pack(params, operation.weights(), kernels.layout);
        for (const int64_t l2 : {int64_t{1}, int64_t{32} << 10, int64_t{256} << 10, int64_t{1} << 40}) {
            cpu::Planned<InvertedResidualParams> planned(params, kernels.layout, 1);
            planned.plan = cpu::plan_block(params, kernels.layout, cpu::choose_cuts(params, kernels.layout, {l2 / 16, l2}, 1));
            Bytes y(expected.size(), dead_byte);
            cpu::run(kernels, planned, cpu::view_of(operation.x().view(), kernels), packed.data(),
                     image_result(kernels, params, ScalarType::float32, y.data()), {});
            CHECK(y == expected);
        }
    });
}

TEST(an_empty_batch)
{
    InvertedResidualParams params = gated(block({7, 5}, 17, 51, 8), 5);
    params.batch = 0;
    for_each_isa([&](const cpu::Kernels& kernels) {
        Random random(1);
        const Bytes packed = pack(params, random_weights(random, params), kernels.layout);
        for (const Parallel& parallel : thread_counts())
            launch(params, {nullptr, ScalarType::float32, 0, 0, 0, 0}, packed.data(), nullptr, parallel);
    });
}

TEST(not_a_number_and_infinity)
{
    for (InvertedResidualParams params : varied_blocks())
        for_each_odd_value(gated(params, 6), Layout::nhwc, [](const Operation<InvertedResidualParams>& operation) {
            for_each_isa(operation.x().dtype(), [&](const cpu::Kernels& kernels) {
                operation.check(operation.run(kernels, Placement::ends_at_guard), kernels);
            });
        });
}

}  // namespace
}  // namespace mnv2::test
