// Times the CUDA blocks that keep the expanded tensor in registers.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"

int main()
{
    using namespace mnv2;
    constexpr bench::Case cases[] = {
        {16, 96, 24, 112, 2}, {24, 144, 24, 56, 1}, {24, 144, 32, 56, 2}, {32, 192, 32, 28, 1}, {32, 192, 64, 28, 2}};
    return bench::time_cases({cuda::register_block_bytes, cuda::pack_register_block, test::register_block}, cases);
}
