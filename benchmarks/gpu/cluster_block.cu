// Times the late blocks by clusters, at batches that choose them.
// `make gpu-check` builds and runs it; the tests have to pass first.
#include "block_timing.h"

int main()
{
    using namespace mnv2;
    constexpr int64_t batches[] = {1, 2, 8};
    constexpr int32_t least_code = 90;
    return bench::time_cases({cuda::tile_block_bytes, cuda::pack_tile_block, test::cluster_block}, bench::late_blocks, batches,
                             least_code);
}
