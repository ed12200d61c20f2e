// Times the CUDA blocks in float32 arithmetic: block 0, which no other kernel serves by itself, and blocks of
// the other kernels, for comparison.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"

int main()
{
    using namespace mnv2;
    constexpr bench::Case cases[] = {
        {32, 32, 16, 112, 1, false}, {24, 144, 24, 56, 1}, {64, 384, 64, 14, 1}, {160, 960, 160, 7, 1}};
    const bench::Kernel kernel{
        cuda::general_block_bytes,
        [](const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
           const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, cuda::Stream stream) {
            cuda::pack_general_block(params, type, expand, depthwise, project, packed, stream);
            return true;
        },
        [](const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
           const cuda::Gpu& gpu, cuda::Stream stream) {
            cuda::general_block(params, type, type, x, packed, y, gpu, stream);
            return true;
        }};
    return bench::time_cases(kernel, cases);
}
