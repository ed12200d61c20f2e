// The ways to compute a block that exist for measurements: the fused one's bits, inside the same buffers.
#include <cstdint>
#include <cstring>
#include <vector>

#include "block_cases.h"
#include "cpu/measure/block_run.h"

namespace mnv2::test {
namespace {

struct UnfusedPlan {
    cpu::BlockPlan block;
    int64_t strip_rows;
    int64_t scratch_bytes;
};

int64_t segments_of(const UnfusedPlan&)
{
    return 1;
}

void run_segment(const cpu::Kernels& kernels, const InvertedResidualParams& params, const UnfusedPlan& plan,
                 const InputView& image, const float* packed, void* y, int64_t, float* scratch)
{
    kernels.unfused_inverted_residual({&params, &plan.block, cpu::view_of(image, kernels), packed,
                                       image_result(kernels, params, image.dtype, y), 0, params.out_height(), scratch},
                                      plan.strip_rows);
}

void check_unfused(const BlockCase& one)
{
    if (!is_sampled()) return;
    const Scope scope(one.description());
    const Operation<InvertedResidualParams> operation(one);
    for_each_isa(one.dtype, [&](const cpu::Kernels& kernels) {
        const Bytes fused = operation.run(kernels, Placement::ends_at_guard);
        operation.check(fused, kernels);
        const cpu::BlockPlan plan = cpu::plan_block(one.params, kernels.layout, cpu::unfused_cuts(one.params, kernels.layout));
        for (const int64_t strip_rows : {int64_t{1}, int64_t{2}, one.params.height})
            for (const Placement placement : placements)
                CHECK(operation.run_planned(kernels, UnfusedPlan{plan, strip_rows, plan.scratch_bytes}, placement) == fused);
    });
}

TEST(unfused_varied_blocks_have_the_fused_ones_bits)
{
    for (InvertedResidualParams params : varied_blocks())
        for (const ScalarType dtype : dtypes)
            for (const int64_t batch : {1, 2}) {
                params.batch = batch;
                check_unfused({params, dtype, Layout::nhwc_slice});
            }
}

TEST(unfused_blocks_of_every_size_and_padding_have_the_fused_ones_bits)
{
    for (const InvertedResidualParams& params : {block({}, 17, 24, 8), without_expand(block({}, 17, 0, 8))})
        for_each_window(params, [](const InvertedResidualParams& one) { check_unfused({one}); });
}

// Table 2 of arXiv 1801.04381, each kind of block once.
std::vector<InvertedResidualParams> published_blocks()
{
    return {without_expand(block({112, 112}, 32, 0, 16)), strided(block({112, 112}, 16, 96, 24)),
            with_residual(block({56, 56}, 24, 144, 0)),   strided(block({56, 56}, 24, 144, 32)),
            with_residual(block({28, 28}, 32, 192, 0)),   strided(block({28, 28}, 32, 192, 64)),
            with_residual(block({14, 14}, 64, 384, 0)),   block({14, 14}, 64, 384, 96),
            with_residual(block({14, 14}, 96, 576, 0)),   strided(block({14, 14}, 96, 576, 160)),
            with_residual(block({7, 7}, 160, 960, 0)),    block({7, 7}, 160, 960, 320)};
}

// Others whose gate needs all depthwise results, in tables 4 of arXiv 1905.11946 and 1 of 1905.02244.
std::vector<InvertedResidualParams> published_gates()
{
    return {gated(without_expand(block({112, 112}, 32, 0, 16)), 8),
            gated(with_kernel(strided(block({56, 56}, 24, 144, 40)), 5), 6),
            gated(with_kernel(with_residual(block({7, 7}, 160, 960, 0)), 5), 240)};
}

bool have_equal_results(const cpu::BlockRun& one, const cpu::BlockRun& other, const InvertedResidualParams& params)
{
    const int64_t floats = out_pixels(params) * params.out_channels;
    return std::memcmp(one.result(), other.result(), static_cast<size_t>(floats) * sizeof(float)) == 0;
}

void check_ways_to_run(const std::vector<InvertedResidualParams>& blocks)
{
    for (const InvertedResidualParams& params : blocks) {
        if (!is_sampled()) continue;
        const Scope scope(describe(params));
        for_each_isa([&](const cpu::Kernels& kernels) {
            const cpu::BlockRun fused(params, kernels, cpu::cache_sizes(), {});
            fused.run();
            const auto check_way = [&](const cpu::BlockWay& way, int64_t l2) {
                const cpu::BlockRun other(params, kernels, {32 << 10, l2}, way);
                other.run();
                CHECK(have_equal_results(fused, other, params));
            };
            for (const int64_t l2 : {int64_t{32} << 10, int64_t{4} << 20}) check_way({false, 0}, l2);
            if (params.has_expand)
                for (const int64_t chunks : {1, 3, 8}) check_way({true, chunks}, 0);
        });
    }
}

TEST(published_blocks_have_equal_bits_however_they_are_run)
{
    check_ways_to_run(published_blocks());
}

TEST(published_blocks_with_a_gate_have_equal_bits_however_they_are_run)
{
    check_ways_to_run(published_gates());
}

TEST(the_counted_pass_computes_the_same)
{
    const InvertedResidualParams ungated = with_residual(block({7, 5}, 17, 51, 0));
    for (const InvertedResidualParams& params : {ungated, gated(ungated, 4)})
        for_each_isa([&](const cpu::Kernels& kernels) {
            const cpu::BlockRun run(params, kernels, cpu::cache_sizes(), {});
            cpu::count_pass(run, 1 << 10);
            const auto bytes = static_cast<size_t>(out_pixels(params) * params.out_channels) * sizeof(float);
            CHECK(std::memcmp(run.result(0), run.result(1), bytes) == 0);
        });
}

}  // namespace
}  // namespace mnv2::test
