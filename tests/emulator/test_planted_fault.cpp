// Faults planted in a kernel have to show in its results; without a fault the results are right. A fault is what the emulator
// makes of an instruction (emulator/faults.h), or what a launch is told.
#include "cuda/cluster_block/launch.cuh"
#include "cuda/tile_block/launch.cuh"
#include "cuda/tile_block/pack.cuh"
#include "emulator/block_cases.h"

namespace mnv2::test {
namespace {

constexpr cuda::Gpu one_multiprocessor{1, 80, 160 << 10}, one_cluster{8, 90, 227 << 10};

using emu::Instruction, emu::Issue;

struct NamedFault {
    const char* name;
    emu::Fault plant;
};

constexpr emu::Fault no_fault = nullptr;
constexpr NamedFault border_not_zeroed = {"the image's border is not zeroed", [](const Issue& issue) {
                                              return !(issue.is(Instruction::store_shared) && issue.is_in("zero_expanded"));
                                          }};

constexpr int tile_chunks = 4;

template <cuda::TileShape shape>
constexpr NamedFault tile_faults[] = {
    {"no barriers between steps",
     [](const Issue& issue) { return !issue.is(Instruction::block_barrier) || issue.before == 0; }},
    {"every other barrier only",
     [](const Issue& issue) { return !issue.is(Instruction::block_barrier) || issue.before % 2 == 0; }},
    {"no wait for the weights", [](const Issue& issue) { return !issue.is(Instruction::copy_wait); }},
    border_not_zeroed,
    {"the next weights fetched before the barrier", [](const Issue& issue) {
         constexpr int steps = tile_chunks + shape.project_lag();  // no fetch follows the last one's barrier
         if (issue.is(Instruction::copy_commit) && issue.before > 0) __syncthreads();
         return !issue.is(Instruction::block_barrier) || issue.before == steps - 1;
     }}};

// A cluster's kernel meets twice in its cluster: when all blocks have started, and before the projection.
template <class Tile>
constexpr NamedFault cluster_faults[] = {
    border_not_zeroed,
    {"no cluster barrier before the projection",
     [](const Issue& issue) {
         return !issue.is(Instruction::cluster_arrive) && !(issue.is(Instruction::cluster_wait) && issue.before == 1);
     }},
    {"no cluster barrier before the first store to another block",
     [](const Issue& issue) {
         return !issue.is(Instruction::cluster_arrive_relaxed) && !(issue.is(Instruction::cluster_wait) && issue.before == 0);
     }},
    {"fragments to the wrong block",
     [](const Issue& issue) {
         if (issue.is(Instruction::store_cluster)) issue.operand = (issue.operand + 1) % cuda::cluster_blocks;
         return true;
     }},
    {"a block that ends before the barrier",
     [](const Issue& issue) {
         if (issue.is(Instruction::cluster_arrive) && cuda::ptx::cluster_rank() == 0) emu::end_thread();
         return true;
     }},
    {"no wait for the project layer's weights",
     [](const Issue& issue) { return !(issue.is(Instruction::copy_wait) && issue.operand == Tile::prefetched_chunks - 2); }},
    {"no barrier between expansion and convolution",
     [](const Issue& issue) { return !(issue.is(Instruction::block_barrier) && issue.before == 1); }}};

constexpr cuda::ClusterShape cluster_shape{.stride = 1};

// The first chunk of a block's share is the last one of its neighbour.
template <class Tile>
struct OverlappingShares : Tile {
    static constexpr cuda::Share share_of(int chunks, int rank)
    {
        const cuda::Share share = Tile::share_of(chunks, rank);
        return {share.first > 0 ? share.first - 1 : 0, share.chunks};
    }
};

// Wrong numbers under any schedule, or an error of the emulator. launch(params, x, packed, y) runs a kernel.
template <class Launch>
bool shows_fault(int64_t chunks, emu::Fault fault, const Launch& launch)
{
    constexpr ScalarType type = ScalarType::float16;
    // Two tiles wide, so that one ends inside the image.
    const BlockCase block(at_size(block_of(16, 16, 1, chunks * cuda::chunk_channels), {1, 5, 19}), type);
    const InvertedResidualParams& params = block.params;
    const Image exact = separate_block(params, block.weights, block.x, std::nullopt);
    const Image layers = separate_block(params, block.weights, block.x, type);
    const double allowed = 2.0 * largest_error(encode_image(layers, type), exact, type);
    const auto pack = [&](const auto& expand, const auto& depthwise, const auto& project, void* packed) {
        const cuda::BlockWeights weights(params, expand, depthwise, project);
        cuda::pack_words(cuda::TileBlockWords<__half>(params, weights), cuda::tile_packed_bytes(params), packed, nullptr);
    };
    const auto launch_with_fault = [&](const void* x, const void* packed, void* y) {
        emu::planted_fault = fault;
        launch(params, x, packed, y);
    };
    for (const uint64_t schedule : schedules) {
        set_schedule(schedule);
        bool is_wrong = true;
        try {
            const Bytes y = run_on_device(block, cuda::tile_packed_bytes(params), pack, launch_with_fault);
            is_wrong = largest_error(y, exact, type) > allowed;
        } catch (const emu::Error&) {
        }
        emu::planted_fault = nullptr;
        if (is_wrong) return true;
    }
    return false;
}

template <class Faults, class Launch>
void check_faults(int64_t chunks, const Faults& faults, const Launch& launch)
{
    CHECK(!shows_fault(chunks, no_fault, launch));
    for (const NamedFault& fault : faults) {
        Scope scope(fault.name);
        CHECK(shows_fault(chunks, fault.plant, launch));
    }
}

// Launches tiles whose halo may lack columns.
template <cuda::TileShape shape>
auto tile_launch(int missing_columns)
{
    return [missing_columns](const InvertedResidualParams& params, const void* x, const void* packed, void* y) {
        cuda::TilePlan plan = cuda::best_tile_plan(shape, params, one_multiprocessor);
        plan.arguments.columns -= missing_columns;
        cuda::launch_tiles<cuda::TileBlock<__half, shape>>(plan, x, packed, y, nullptr);
    };
}

template <cuda::TileShape shape>
void check_tile_faults()
{
    check_faults(tile_chunks, tile_faults<shape>, tile_launch<shape>(0));
    CHECK(shows_fault(tile_chunks, no_fault, tile_launch<shape>(1)));
}

TEST(a_planted_fault_shows_in_the_direct_form)
{
    check_tile_faults<cuda::TileShape{.direct = true, .column_pairs = 1, .most_warps = 8}>();
}

TEST(a_planted_fault_shows_in_the_shared_form)
{
    check_tile_faults<cuda::TileShape{.column_pairs = 1, .most_warps = 8}>();
}

// Launches clusters whose halo may lack columns.
template <class Tile>
auto cluster_launch(int missing_columns)
{
    return [missing_columns](const InvertedResidualParams& params, const void* x, const void* packed, void* y) {
        cuda::ClusterPlan plan = cuda::best_cluster_plan(cluster_shape, params, one_cluster);
        plan.arguments.tile.columns -= missing_columns;
        cuda::launch_cluster_plan<Tile>(plan, x, packed, y, nullptr);
    };
}

TEST(a_planted_fault_shows_in_clusters)
{
    using Tile = cuda::ClusterTile<__half, cluster_shape>;
    constexpr int64_t chunks = cuda::cluster_blocks + 1;  // so that one block has two of them
    check_faults(chunks, cluster_faults<Tile>, cluster_launch<Tile>(0));
    CHECK(shows_fault(chunks, no_fault, cluster_launch<Tile>(1)));
    CHECK(shows_fault(chunks, no_fault, cluster_launch<OverlappingShares<Tile>>(0)));
}

}  // namespace
}  // namespace mnv2::test
