// With a fault in a kernel (MNV2_PLANTED_FAULT in tile_block and cluster_block), the results have to show it; without,
// not. Here the fault is a variable, so that one program tries all of them.
namespace mnv2::test {
inline int planted_fault = 0;
}
#define MNV2_PLANTED_FAULT (mnv2::test::planted_fault)

#include "cuda/cluster_block/launch.cuh"
#include "cuda/tile_block/launch.cuh"
#include "cuda/tile_block/pack.cuh"
#include "emulator/block_cases.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu one_multiprocessor{1, 80, 160 << 10}, one_cluster{8, 90, 227 << 10};
constexpr int tile_faults[] = {1, 2, 3, 4, 5, 6}, cluster_faults[] = {2, 4, 7, 8, 9, 10, 11, 12, 13};

// Wrong numbers under any schedule, or an error of the emulator. launch(params, x, packed, y) runs a kernel.
template <class Launch>
bool shows_fault(int64_t chunks, int fault, const Launch& launch)
{
    constexpr ScalarType type = ScalarType::float16;
    InvertedResidualParams params = block_of(16, 16, 1, chunks * cuda::chunk_channels);
    params.batch = 1;
    params.height = 5;
    params.width = 19;  // two tiles, so that one ends inside the image
    Random random(1);
    const Weights weights = random_weights(random, params, type);
    const Image x = random_image(random, params, type);
    const Image exact = separate_block(params, weights, x, std::nullopt);
    const double allowed = 2.0 * largest_error(encode_image(separate_block(params, weights, x, type), type), exact, type);

    const DeviceConvolution expand(weights.expand), depthwise(weights.depthwise), project(weights.project);
    const DeviceBuffer packed(static_cast<size_t>(cuda::packed_bytes(params))), input(encode_image(x, type));
    cuda::pack_tiles<__half>(params, expand.view(), depthwise.view(), project.view(), packed.data(), nullptr);
    planted_fault = fault;
    for (const uint64_t schedule : schedules) {
        set_schedule(schedule);
        const DeviceBuffer output(encode_image(exact, type).size());
        try {
            launch(params, input.data(), packed.data(), output.data());
        } catch (const emu::Error&) {
            return true;
        }
        if (largest_error(output.bytes(), exact, type) > allowed) return true;
    }
    return false;
}

template <class Faults, class Launch>
void check_faults(int64_t chunks, const Faults& faults, const Launch& launch)
{
    CHECK(!shows_fault(chunks, 0, launch));
    for (const int fault : faults) {
        Scope scope("fault ", fault);
        CHECK(shows_fault(chunks, fault, launch));
    }
}

template <class Tile>
void check_tile_faults()
{
    check_faults(4, tile_faults, [](const InvertedResidualParams& params, const void* x, const void* packed, void* y) {
        cuda::launch_tiles<Tile>(cuda::best_plan<Tile>(params, one_multiprocessor), x, packed, y, nullptr);
    });
}

TEST(a_planted_fault_shows_in_the_direct_form)
{
    check_tile_faults<cuda::TileBlock<__half, 0, 0, 1, true, false, 1, 2, 1, 2, 8>>();
}

TEST(a_planted_fault_shows_in_the_shared_form)
{
    check_tile_faults<cuda::TileBlock<__half, 0, 0, 1, false, false, 1, 2, 1, 2, 8>>();
}

TEST(a_planted_fault_shows_in_clusters)
{
    using Tile = cuda::ClusterTile<__half, 1>;
    constexpr int64_t chunks = cuda::cluster_blocks + 1;  // so that one block has two of them
    check_faults(chunks, cluster_faults, [](const InvertedResidualParams& params, const void* x, const void* packed, void* y) {
        cuda::launch_cluster_plan<Tile>(cuda::best_cluster_plan<Tile>(params, one_cluster), x, packed, y, nullptr);
    });
}

}  // namespace
}  // namespace mnv2::test
