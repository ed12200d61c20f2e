// Prints what the CUDA kernels of MobileNetV2 1.0 ask of a GPU for an image at each stage, as the emulator counts it: JSON,
// which gpu_floors.py reads.
#include "cuda/common/ptx.cuh"
#include "cuda/launch.h"

#include <cinttypes>
#include <cstdio>

#include "emulator/block_kernels.h"
#include "emulator/blocks.h"
#include "emulator/network_stem.h"
#include "emulator/tile_stages.h"

namespace {

using namespace mnv2;

// A stage by the names of gpu_floors.py.
struct StageKey {
    int64_t in_channels, expanded_channels, out_channels;
    int32_t stride;
    int64_t size;
};

// Two images a multiprocessor, as an H100's 132 have at batches of 256: thread blocks that run until all tiles are made then
// have as many tiles, and fetch their weights as often.
constexpr int64_t images_per_sm = 2;
constexpr cuda::Gpu counted_gpu{1, 90, 227 << 10};
constexpr cuda::Gpu head_gpu{2, 90, 227 << 10};  // a thread block of the head takes four images

bool is_first = true;

void print_field(const char* name, uint64_t all, int64_t images)
{
    std::printf("\"%s\": %.1f, ", name, static_cast<double>(all) / static_cast<double>(images));
}

template <class Values, class Amount>
void print_map(const char* name, const Values& values, int64_t images, const Amount& amount, const char* end)
{
    std::printf("\"%s\": {", name);
    const char* separator = "";
    for (const auto& [key, value] : values) {
        std::printf("%s\"%s\": %.2f", separator, key.c_str(), static_cast<double>(amount(value)) / static_cast<double>(images));
        separator = ", ";
    }
    std::printf("}%s", end);
}

void print_counts(const char* kernel, ScalarType type, const StageKey& stage, int64_t images, const emu::Counts& counts)
{
    std::printf("%s  {\"kernel\": \"%s\", \"dtype\": \"%s\", \"in_channels\": %" PRId64 ", \"expanded_channels\": %" PRId64
                ", \"out_channels\": %" PRId64 ", \"stride\": %d, \"size\": %" PRId64 ", ",
                is_first ? "" : ",\n", kernel, scalar_type_name(type), stage.in_channels, stage.expanded_channels,
                stage.out_channels, stage.stride, stage.size);
    is_first = false;
    print_field("global_read_bytes", counts.global_read_bytes, images);
    print_field("global_written_bytes", counts.global_written_bytes, images);
    print_field("shared_wavefronts", counts.wavefronts(), images);
    print_field("shared_wavefronts_without_conflicts", counts.ideal_wavefronts(), images);
    print_field("mma_m16n8k8", counts.mma, images);
    print_field("pair_operations", counts.pair_operations, images);
    print_field("float_operations", counts.float_operations, images);
    print_map("instructions", counts.instructions, images, [](uint64_t count) { return count; }, ", ");
    print_map("wavefronts_by_line", counts.shared, images, [](const emu::SharedLine& line) { return line.wavefronts; }, "}");
}

// What a launch(x, packed, y) counts, whatever the numbers.
template <class Launch>
emu::Counts counts_with(int64_t input_bytes, int64_t packed_bytes, int64_t output_bytes, const Launch& launch)
{
    const auto zeros = [](int64_t bytes) { return std::vector<uint8_t>(static_cast<size_t>(bytes)); };
    const test::DeviceBuffer input(zeros(input_bytes)), packed(zeros(packed_bytes)), output(zeros(output_bytes));
    return emu::counts_of([&] { launch(input.data(), packed.data(), output.data()); });
}

StageKey key_of(const InvertedResidualParams& block)
{
    return {block.in_channels, block.expanded_channels, block.out_channels, block.stride, block.height};
}

void count_tile_block(const test::Stage& stage, ScalarType type)
{
    const InvertedResidualParams params = test::whole_tile(stage);
    print_counts("tile_block", type, key_of(params), params.batch, test::tile_counts(params, type, test::small_gpu));
}

void count_register_block(const test::Stage& stage, ScalarType type)
{
    const InvertedResidualParams params = test::at_size(stage.params, {images_per_sm, stage.size, stage.size});
    const emu::Counts counts = counts_with(test::input_bytes(params, type), cuda::register_block_bytes(params, type),
                                           test::output_bytes(params, type), [&](const void* x, const void* packed, void* y) {
                                               test::register_block(params, type, x, packed, y, counted_gpu, nullptr);
                                           });
    print_counts("register_block", type, key_of(params), params.batch, counts);
}

// Block 0, behind the stem of an image of three planes.
InvertedResidualParams first_block()
{
    const StemParams stem = test::network_stem(images_per_sm);
    return test::at_size(test::without_expand(stem.out_channels, 16, 1), {stem.batch, stem.out_height(), stem.out_width()});
}

void count_stem(ScalarType type)
{
    const StemParams stem = test::network_stem(images_per_sm);
    const int64_t outputs = stem.batch * stem.out_height() * stem.out_width() * stem.out_channels;
    const emu::Counts counts =
        counts_with(test::image_numbers(stem) * scalar_bytes(type), cuda::stem_bytes(stem, type), outputs * scalar_bytes(type),
                    [&](const void* x, const void* packed, void* y) {
                        cuda::stem(stem, type, test::planes(stem, type, x), packed, y, counted_gpu, nullptr);
                    });
    print_counts("stem", type, {stem.in_channels, 0, stem.out_channels, stem.stride, stem.height}, stem.batch, counts);
}

void count_stem_block(ScalarType type)
{
    const StemParams stem = test::network_stem(images_per_sm);
    const InvertedResidualParams block = first_block();
    const emu::Counts counts =
        counts_with(test::image_numbers(stem) * scalar_bytes(type), cuda::stem_block_bytes(stem, block, type),
                    test::output_bytes(block, type), [&](const void* x, const void* packed, void* y) {
                        cuda::stem_block(stem, block, test::planes(stem, type, x), packed, y, counted_gpu, nullptr);
                    });
    print_counts("stem_block", type, {stem.in_channels, stem.out_channels, block.out_channels, stem.stride, stem.height},
                 stem.batch, counts);
}

// Block 0 by itself: no faster kernel than general_block serves it.
void count_first_block(ScalarType type)
{
    const InvertedResidualParams block = first_block();
    const emu::Counts counts = counts_with(test::input_bytes(block, type), cuda::general_block_bytes(block, type),
                                           test::output_bytes(block, type), [&](const void* x, const void* packed, void* y) {
                                               test::general_block(block, type, x, packed, y, counted_gpu, nullptr);
                                           });
    StageKey key = key_of(block);
    key.expanded_channels = 0;
    print_counts("general_block", type, key, block.batch, counts);
}

void count_head_pool(ScalarType type)
{
    HeadPoolParams head{};
    head.batch = images_per_sm * head_gpu.sm_count;
    head.height = head.width = 7;
    head.in_channels = 320;
    head.out_channels = 1280;
    const emu::Counts counts = counts_with(
        head.batch * head.height * head.width * head.in_channels * scalar_bytes(type), cuda::head_pool_bytes(head, type),
        head.batch * head.out_channels * scalar_bytes(type), [&](const void* x, const void* packed, void* y) {
            cuda::head_pool(head, type, type, x, packed, y, head_gpu, nullptr);
        });
    print_counts("head_pool", type, {head.in_channels, 0, head.out_channels, 1, head.height}, head.batch, counts);
}

}  // namespace

int main()
{
    std::printf("[\n");
    for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16}) {
        count_stem(type);
        count_first_block(type);
        count_stem_block(type);
        for (const test::Stage& stage : test::early_stages) count_register_block(stage, type);
        for (const test::Stage& stage : test::late_stages) count_tile_block(stage, type);
        count_head_pool(type);
    }
    std::printf("\n]\n");
    return 0;
}
