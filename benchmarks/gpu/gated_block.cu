// Times the CUDA blocks with a gate: of MobileNetV3-large and EfficientNet-B0.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"
#include "cuda/gated_block/plan.h"

namespace {

using namespace mnv2;

struct GatedCase {
    bench::Case block;
    int32_t kernel;
    int64_t squeezed;
    Activation activation;
};

// EfficientNet-B0 at 28x28 and 14x14, MobileNetV3-large at 14x14.
constexpr GatedCase cases[] = {{{40, 240, 40, 28, 1}, 5, 10, Activation::silu},
                               {{80, 480, 112, 14, 1}, 5, 20, Activation::silu},
                               {{112, 672, 112, 14, 1}, 3, 168, Activation::hardswish}};

InvertedResidualParams params_of(const GatedCase& from, int64_t batch)
{
    InvertedResidualParams params = bench::params_of(from.block, batch);
    const int32_t side = most_padding(from.kernel);
    params.kernel = from.kernel;
    params.padding = {side, side, side, side};
    params.activation = from.activation;
    params.squeezed_channels = from.squeezed;
    return params;
}

void time_case(const GatedCase& from, int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream)
{
    constexpr ScalarType type = ScalarType::float16;
    const InvertedResidualParams params = params_of(from, batch);
    std::mt19937 random(1);
    const int64_t expanded = params.expanded_channels;
    const bench::Layer expand(random, expanded * params.in_channels), depthwise(random, expanded * params.taps()),
        project(random, params.out_channels * expanded), squeeze(random, from.squeezed * expanded),
        excite(random, expanded * from.squeezed);
    const bench::Buffer packed(static_cast<size_t>(cuda::gated_block_bytes(params)));
    cuda::pack_gated_block(params, {expand.view(), depthwise.view(), project.view(), squeeze.view(), excite.view()},
                           packed.data(), stream);
    const cuda::GatedPlan plan = cuda::plan_gated(params, gpu);
    const bench::Buffer scratch(static_cast<size_t>(plan.scratch(type).end));
    const int64_t pixels = batch * from.block.size * from.block.size;
    const std::string name = bench::name_of(from.block) + " k" + std::to_string(from.kernel) + " gate";
    bench::time_row(
        {name, batch, pixels * params.in_channels, pixels * params.out_channels}, stream,
        [&](const void* x, void* y) { cuda::launch_plan(plan, type, x, packed.data(), y, scratch.data(), gpu, stream); });
}

}  // namespace

int main()
{
    return bench::time_batches([](int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream) {
        for (const GatedCase& each : cases) time_case(each, batch, gpu, stream);
    });
}
