// Prints as JSON what tile_block asks of a GPU at each late stage of MobileNetV2 1.0, an image, as the emulator counts it.
#include "cuda/launch.h"
#include "cuda/ptx.cuh"

#include <cinttypes>
#include <cstdio>

#include "emulator/tile_stages.h"

namespace {

using namespace mnv2;

void print_field(const char* name, uint64_t all, int64_t images, const char* end = ", ")
{
    std::printf("\"%s\": %.1f%s", name, static_cast<double>(all) / static_cast<double>(images), end);
}

void print_stage(const test::Stage& stage, ScalarType type, bool first)
{
    const InvertedResidualParams params = test::whole_tile(stage);
    const emu::Counts counts = test::tile_counts(params, type, test::small_gpu);
    std::printf("%s  {\"kernel\": \"tile_block\", \"dtype\": \"%s\", \"in_channels\": %" PRId64
                ", \"expanded_channels\": %" PRId64 ", \"out_channels\": %" PRId64 ", \"stride\": %d, \"size\": %" PRId64 ", ",
                first ? "" : ",\n", scalar_type_name(type), params.in_channels, params.expanded_channels, params.out_channels,
                params.stride, params.height);
    print_field("tensor_bytes", static_cast<uint64_t>(test::input_bytes(params, type) + test::output_bytes(params, type)),
                params.batch);
    print_field("global_read_bytes", counts.global_read_bytes, params.batch);
    print_field("global_written_bytes", counts.global_written_bytes, params.batch);
    print_field("shared_wavefronts", counts.wavefronts(), params.batch);
    print_field("shared_wavefronts_without_conflicts", counts.ideal_wavefronts(), params.batch);
    print_field("mma_m16n8k8", counts.mma, params.batch);
    print_field("pair_operations", counts.pair_operations, params.batch);
    print_field("float_operations", counts.float_operations, params.batch);
    std::printf("\"wavefronts_by_line\": {");
    const char* separator = "";
    for (const auto& [line, shared] : counts.shared) {
        std::printf("%s\"%d\": %.1f", separator, line,
                    static_cast<double>(shared.wavefronts) / static_cast<double>(params.batch));
        separator = ", ";
    }
    std::printf("}}");
}

}  // namespace

int main()
{
    std::printf("[\n");
    bool first = true;
    for (const ScalarType type : {ScalarType::float16, ScalarType::bfloat16})
        for (const test::Stage& stage : test::late_stages) {
            print_stage(stage, type, first);
            first = false;
        }
    std::printf("\n]\n");
    return 0;
}
