// Times the CUDA stem.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "emulator/network_stem.h"
#include "timing.h"

namespace {

using namespace mnv2;

void time_stem(int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream)
{
    constexpr ScalarType type = ScalarType::float16;
    const StemParams stem = test::network_stem(batch);
    std::mt19937 random(1);
    const bench::Layer layer(random, stem.out_channels * stem.in_channels * kernel_taps);
    const bench::Buffer packed(static_cast<size_t>(cuda::stem_bytes(stem, type)));
    cuda::pack_stem(stem, type, layer.view(), packed.data(), stream);
    const int64_t outputs = batch * stem.out_height() * stem.out_width() * stem.out_channels;
    bench::time_row({"stem 3-32 s2 @224", batch, test::image_numbers(stem), outputs}, stream, [&](const void* x, void* y) {
        cuda::stem(stem, type, test::planes(stem, type, x), packed.data(), y, gpu, stream);
    });
}

}  // namespace

int main()
{
    return bench::time_batches(time_stem);
}
