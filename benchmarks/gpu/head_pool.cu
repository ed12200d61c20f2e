// Times the CUDA head with its pool.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "timing.h"

namespace {

using namespace mnv2;

void time_head(int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream)
{
    constexpr ScalarType type = ScalarType::float16;
    HeadPoolParams head{};
    head.batch = batch;
    head.height = head.width = 7;
    head.in_channels = 320;
    head.out_channels = 1280;
    std::mt19937 random(1);
    const bench::Layer layer(random, head.out_channels * head.in_channels);
    const bench::Buffer packed(static_cast<size_t>(cuda::head_pool_bytes(head, type)));
    cuda::pack_head_pool(head, type, layer.view(), packed.data(), stream);
    const int64_t inputs = batch * head.height * head.width * head.in_channels;
    bench::time_row({"head 320-1280 @7", batch, inputs, batch * head.out_channels}, stream,
                    [&](const void* x, void* y) { cuda::head_pool(head, type, type, x, packed.data(), y, gpu, stream); });
}

}  // namespace

int main()
{
    return bench::time_batches(time_head);
}
