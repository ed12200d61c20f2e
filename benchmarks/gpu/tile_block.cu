// Times the CUDA blocks that keep the expanded tensor in shared memory.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"

int main()
{
    using namespace mnv2;
    return bench::time_cases({cuda::tile_block_bytes, cuda::pack_tile_block, test::tile_block}, bench::late_blocks);
}
