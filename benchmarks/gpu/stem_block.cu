// Times the CUDA stem with block 0 in one kernel.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"
#include "emulator/network_stem.h"

namespace {

using namespace mnv2;

void time_stem_block(int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream)
{
    constexpr ScalarType type = ScalarType::float16;
    const StemParams stem = test::network_stem(batch);
    const InvertedResidualParams block = bench::params_of({32, 32, 16, 112, 1, false}, batch);
    std::mt19937 random(1);
    const bench::Layer first(random, stem.out_channels * stem.in_channels * kernel_taps),
        depthwise(random, block.expanded_channels * kernel_taps), project(random, block.out_channels * block.in_channels);
    const bench::Buffer packed(static_cast<size_t>(cuda::stem_block_bytes(stem, block, type)));
    bench::require(
        cuda::pack_stem_block(stem, block, type, first.view(), depthwise.view(), project.view(), packed.data(), stream));
    const int64_t outputs = batch * block.out_height() * block.out_width() * block.out_channels;
    bench::time_row(
        {"stem and block 0 3-32-16 s2 @224", batch, test::image_numbers(stem), outputs}, stream, [&](const void* x, void* y) {
            bench::require(cuda::stem_block(stem, block, test::planes(stem, type, x), packed.data(), y, gpu, stream));
        });
}

}  // namespace

int main()
{
    return bench::time_batches(time_stem_block);
}
