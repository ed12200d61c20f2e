#include "cuda/tile_block/launch.cuh"

#include <tuple>

#include "cuda/launch.h"
#include "cuda/tile_block/pack.cuh"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {
namespace {

// Blocks of MobileNetV2 1.0, in the form and tile with the fewest wavefronts of shared memory among those that spill nowhere
// (benchmarks/NOTES.md): direct as long as one warp's accumulators take all output channels, input pixels in registers as
// long as all warps' fit beside each other. 160-960-320 reads each fragment for four row tiles instead. At 7x7 bfloat16,
// which convolves in float, has no registers for a stack of two.
template <class T, int stack = ptx::is_half<T> ? 2 : 1>
using StageBlocks =
    std::tuple<TileBlock<T, 64, 64, 1, true, true, 1, 2, 4, 4, 11>, TileBlock<T, 64, 96, 1, true, true, 1, 2, 6, 4, 11>,
               TileBlock<T, 96, 96, 1, true, true, 1, 2, 6, 3, 12>, TileBlock<T, 96, 160, 2, false, true, 2, 2, 5, 4, 8>,
               TileBlock<T, 160, 160, 1, false, true, stack, 2, 5, 2, 12>,
               TileBlock<T, 160, 320, 1, false, false, stack, 4, 5, 2, 8>>;

// All other channels, and all small batches.
template <class T, int stride>
using DirectBlock = TileBlock<T, 0, 0, stride, true, false, 1, 2, 6, 2, 8>;
template <class T, int stride>
using SharedBlock = TileBlock<T, 0, 0, stride, false, false, 1, 2, 5, 2, 12>;

// Where a GPU has too little shared memory for two steps' weights, such as 99 KiB for MobileNetV2 1.4's last block. Input
// pixels in single row tiles fill up less than in twos.
template <class T, int stride>
struct SmallBlock : TileBlock<T, 0, 0, stride, false, false, 1, 2, 5, 1, 12> {
    static constexpr int weight_buffers = 1;
};

constexpr int64_t max_served_channels = 4096;  // before shared memory is too small; sizes stay within 32 bits

template <class T, class Visit>
void visit_stage(const InvertedResidualParams& params, const Visit& visit)
{
    const auto is_stage = [&]<class Tile>(Tile) {
        return params.in_channels == Tile::in_channels && params.out_channels == Tile::out_channels &&
               params.stride == Tile::stride;
    };
    std::apply([&](auto... stages) { ((is_stage(stages) && (visit(stages), true)) || ...); }, StageBlocks<T>{});
}

// Whether the smallest tiles, one strip of a wide or of a narrow image, fit.
template <class T, int stride>
bool has_tile(InvertedResidualParams params)
{
    const auto fits = [&](int64_t size) {
        params.batch = 1;
        params.height = params.width = size;
        return plan_of<SharedBlock<T, stride>>(params, 1, 1, max_shared_bytes).warps > 0;
    };
    constexpr int64_t wide = 64, narrow = 8;
    return fits(wide) && fits(narrow);
}

bool serves(const InvertedResidualParams& params)
{
    if (!params.has_expand || params.activation == Activation::none || params.project_activation != Activation::none)
        return false;
    if (params.in_channels % 8 != 0 || params.out_channels % 8 != 0) return false;
    if (params.in_channels > max_served_channels || params.out_channels > max_served_channels) return false;
    return params.stride == 1 ? has_tile<__half, 1>(params) : has_tile<__half, 2>(params);
}

// visit(tile, plan) of the block's own kernel where its tiles keep the GPU busy; else of the shared form, whose blocks have
// more warps. False, and no visit, where the GPU has too little shared memory.
template <class T, int stride, class Visit>
bool visit_choice(const InvertedResidualParams& params, const Gpu& gpu, const Visit& visit)
{
    bool visited = false;
    const auto visit_if = [&]<class Tile>(Tile tile, const auto& condition) {
        if (visited) return;
        const Plan plan = best_plan<Tile>(params, gpu);
        if (!condition(plan)) return;
        visit(tile, plan);
        visited = true;
    };
    const auto busy = [&](const Plan& plan) { return is_busy(plan, gpu); };
    if (can_be_busy(params, gpu)) {  // plans take the host's time
        visit_stage<T>(params, [&](auto stage) { visit_if(stage, busy); });
        visit_if(DirectBlock<T, stride>{}, busy);
    }
    const auto possible = [](const Plan& plan) { return plan.warps > 0; };
    visit_if(SharedBlock<T, stride>{}, possible);
    visit_if(SmallBlock<T, stride>{}, possible);
    return visited;
}

template <class Visit>
bool visit_choice(const InvertedResidualParams& params, ScalarType type, const Gpu& gpu, const Visit& visit)
{
    if (tile_block_bytes(params, type) == 0) return false;
    const auto visit_type = [&]<class T>(T) {
        return params.stride == 1 ? visit_choice<T, 1>(params, gpu, visit) : visit_choice<T, 2>(params, gpu, visit);
    };
    return type == ScalarType::float16 ? visit_type(__half{}) : visit_type(__nv_bfloat16{});
}

}  // namespace

int64_t tile_block_bytes(const InvertedResidualParams& params, ScalarType type)
{
    return type != ScalarType::float32 && serves(params) ? packed_bytes(params) : 0;
}

bool pack_tile_block(const InvertedResidualParams& params, ScalarType type, const ConvolutionWeights& expand,
                     const ConvolutionWeights& depthwise, const ConvolutionWeights& project, void* packed, Stream stream)
{
    if (tile_block_bytes(params, type) == 0) return false;
    if (type == ScalarType::float16)
        pack_tiles<__half>(params, expand, depthwise, project, packed, stream);
    else
        pack_tiles<__nv_bfloat16>(params, expand, depthwise, project, packed, stream);
    return true;
}

int64_t tile_block_grid(const InvertedResidualParams& params, ScalarType type, const Gpu& gpu)
{
    int64_t blocks = 0;
    visit_choice(params, type, gpu, [&](auto, const Plan& plan) { blocks = plan.blocks; });
    return blocks;
}

bool tile_block(const InvertedResidualParams& params, ScalarType type, const void* x, const void* packed, void* y,
                const Gpu& gpu, Stream stream)
{
    return visit_choice(params, type, gpu,
                        [&]<class Tile>(Tile, const Plan& plan) { launch_tiles<Tile>(plan, x, packed, y, stream); });
}

}  // namespace mnv2::cuda
