// Times the CUDA blocks that keep the expanded tensor in shared memory.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"

int main()
{
    using namespace mnv2;
    constexpr bench::Case cases[] = {{64, 384, 64, 14, 1},  {64, 384, 96, 14, 1},  {96, 576, 96, 14, 1},
                                     {96, 576, 160, 14, 2}, {160, 960, 160, 7, 1}, {160, 960, 320, 7, 1}};
    return bench::time_cases({cuda::tile_block_bytes, cuda::pack_tile_block, cuda::tile_block}, cases);
}
