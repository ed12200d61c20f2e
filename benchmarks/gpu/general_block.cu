// Times the CUDA blocks in float32 arithmetic: block 0, which no other kernel serves by itself, and blocks of
// the other kernels, for comparison.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"

int main()
{
    using namespace mnv2;
    constexpr bench::Case cases[] = {
        {32, 32, 16, 112, 1, false}, {24, 144, 24, 56, 1}, {64, 384, 64, 14, 1}, {160, 960, 160, 7, 1}};
    return bench::time_cases({cuda::general_block_bytes, cuda::pack_general_block, test::general_block}, cases);
}
