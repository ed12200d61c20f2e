// One pass of one float32 block, for programs that count what it executes:
// run_block HEIGHT WIDTH IN EXPANDED OUT STRIDE RESIDUAL FUSED L2_BYTES
//
// RESIDUAL and FUSED are 0 or 1; a block whose EXPANDED is IN has no expand. Prints the name of the instruction set.
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "cpu/isa/dispatch.h"
#include "cpu/measure/block_run.h"

namespace mnv2 {
namespace {

constexpr int argument_count = 9;

void run(const std::array<int64_t, argument_count>& numbers)
{
    const auto [height, width, in, expanded, out, stride, residual, fused, l2_bytes] = numbers;
    InvertedResidualParams params{};
    params.batch = 1;
    params.height = height;
    params.width = width;
    params.in_channels = in;
    params.expanded_channels = expanded;
    params.out_channels = out;
    params.stride = static_cast<int32_t>(stride);
    params.has_expand = in != expanded;
    params.has_residual = residual != 0;
    const cpu::CacheSizes caches{cpu::cache_sizes().l1, l2_bytes};
    const cpu::BlockRun block(params, cpu::select_kernels(), caches, {fused != 0, 0});
    block.run();
    std::printf("%s\n", block.kernels().name);
}

}  // namespace
}  // namespace mnv2

int main(int count, char** arguments)
{
    if (count != 1 + mnv2::argument_count) {
        std::fprintf(stderr, "run_block HEIGHT WIDTH IN EXPANDED OUT STRIDE RESIDUAL FUSED L2_BYTES\n");
        return 2;
    }
    try {
        std::array<int64_t, mnv2::argument_count> numbers{};
        for (int i = 0; i < mnv2::argument_count; ++i) numbers[i] = std::stoll(arguments[1 + i]);
        mnv2::run(numbers);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
