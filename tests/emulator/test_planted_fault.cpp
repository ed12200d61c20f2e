// Compiled with a fault in the kernel (MNV2_PLANTED_FAULT in tile_block.cuh), the results have to show it; without, not.
#include "cuda/tile_words.cuh"
#include "emulator/block_cases.h"

namespace mnv2::test {
namespace {

// Wrong numbers under any schedule, or an error of the emulator.
template <class Tile>
bool shows_fault()
{
    constexpr ScalarType type = ScalarType::float16;
    constexpr cuda::Gpu gpu{1, 80, 160 << 10};
    InvertedResidualParams params = block_of(16, 16, 1, 4 * cuda::chunk_channels);
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
    for (const uint64_t schedule : schedules) {
        set_schedule(schedule);
        const DeviceBuffer output(encode_image(exact, type).size());
        try {
            cuda::launch_tiles<Tile>(cuda::best_plan<Tile>(params, gpu), input.data(), packed.data(), output.data(), nullptr);
        } catch (const emu::Error&) {
            return true;
        }
        if (largest_error(output.bytes(), exact, type) > allowed) return true;
    }
    return false;
}

TEST(a_planted_fault_shows_in_the_direct_form)
{
    CHECK_EQUAL((shows_fault<cuda::TileBlock<__half, 0, 0, 1, true, false, 1, 2, 1, 2, 8>>()), MNV2_PLANTED_FAULT != 0);
}

TEST(a_planted_fault_shows_in_the_shared_form)
{
    CHECK_EQUAL((shows_fault<cuda::TileBlock<__half, 0, 0, 1, false, false, 1, 2, 1, 2, 8>>()), MNV2_PLANTED_FAULT != 0);
}

}  // namespace
}  // namespace mnv2::test
