#include "torch/cuda/plan.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "core/sizes.h"
#include "cuda/common/packed_length.h"
#include "cuda/served.h"
#include "torch/cuda/launch.h"

namespace mnv2::ops {
namespace {

constexpr int64_t unit = 256;  // bytes: layers' weights begin where any load may

struct PackedBytes {
    ScalarType type;

    int64_t operator()(const InvertedResidualParams& params) const { return cuda::inverted_residual_bytes(params, type); }
    int64_t operator()(const StemParams& params) const { return cuda::stem_bytes(params, type); }
    int64_t operator()(const HeadPoolParams& params) const { return cuda::head_pool_bytes(params, type); }
    int64_t operator()(const LinearParams& params) const
    {
        return (params.in_features + 1) * params.out_features * scalar_bytes(type);
    }
};

// Bytes of a first stem and the block behind it where one kernel computes both, else 0.
int64_t joined_bytes(const Layers& layers, ScalarType type)
{
    if (layers.size() < 2 || type == ScalarType::float32) return 0;
    const auto* const stem = std::get_if<StemParams>(&layers[0].params);
    const auto* const block = std::get_if<InvertedResidualParams>(&layers[1].params);
    return stem && block ? cuda::stem_block_bytes(*stem, *block, type) : 0;
}

// The type that weights were packed for, which their length tells.
ScalarType check_packed(const Argument& argument, const Tensor& x, const Tensor& packed, const Layers& layers)
{
    refuse_unserved(argument.op, layers, cuda::served_options);
    std::array<int64_t, std::size(packed_types)> lengths;
    std::transform(std::begin(packed_types), std::end(packed_types), lengths.begin(),
                   [&](ScalarType type) { return format_of(layers, type).bytes; });
    const ScalarType type = check_packed_length(argument, x, packed, lengths);
    if (!is_aligned(packed))
        refuse(argument, "data aligned to " + std::to_string(load_bytes) + " bytes", "a view at an odd offset");
    return type;
}

// Chooses and plans a layer's kernel.
struct LaunchPlanner {
    ScalarType x_type, packed_type;
    const cuda::Gpu& gpu;
    int64_t& scratch_bytes;  // grows to what the launches need

    cuda::Launch operator()(const InvertedResidualParams& params) const
    {
        cuda::PlannedBlock block = cuda::plan_inverted_residual(params, x_type, packed_type, gpu);
        scratch_bytes = std::max(scratch_bytes, block.scratch_bytes);
        return std::move(block.launch);
    }
    cuda::Launch operator()(const StemParams& params) const
    {
        return [params, type = packed_type, gpu = gpu](const InputView& x, const void* packed, void* y, void*,
                                                       cuda::Stream stream) {
            cuda::stem(params, type, x, packed, y, gpu, stream);
        };
    }
    cuda::Launch operator()(const HeadPoolParams& params) const
    {
        return [params, type = packed_type, gpu = gpu](const InputView& x, const void* packed, void* y, void*,
                                                       cuda::Stream stream) {
            cuda::head_pool(params, x.dtype, type, x.data, packed, y, gpu, stream);
        };
    }
    cuda::Launch operator()(const LinearParams&) const { return {}; }  // torch's

    cuda::Launch joined(const StemParams& stem, const InvertedResidualParams& block) const
    {
        return [stem, block, gpu = gpu](const InputView& x, const void* packed, void* y, void*, cuda::Stream stream) {
            cuda::stem_block(stem, block, x, packed, y, gpu, stream);
        };
    }
};

int64_t result_bytes(const NetworkLayer& layer, ScalarType type)
{
    const ImageSize size = result_size(layer);
    return size.height * size.width * channels_of(layer.params).out * scalar_bytes(type);
}

}  // namespace

ChainFormat format_of(const Layers& layers, ScalarType type)
{
    const int64_t joined = joined_bytes(layers, type);
    ChainFormat format{joined > 0, {}, 0};
    const auto place = [&](int64_t bytes) {
        const int64_t offset = format.bytes;
        format.bytes += round_up(bytes, unit);
        return offset;
    };
    if (format.joined) format.offsets.assign(2, place(joined));
    for (size_t index = format.offsets.size(); index < layers.size(); ++index)
        format.offsets.push_back(place(std::visit(PackedBytes{type}, layers[index].params)));
    format.bytes = cuda::packed_length(format.bytes, type);
    return format;
}

CudaPlan::CudaPlan(const char* op, const Layers& layers, ScalarType type, const Tensor& x, const Tensor& packed)
    : device(device_of(x)),
      packed_type(check_packed({op, "packed"}, x, packed, layers)),
      begins_with_stem(std::holds_alternative<StemParams>(layers.front().params))
{
    const ChainFormat format = format_of(layers, packed_type);
    packed_bytes = format.bytes;
    Layers body;  // layers of images
    for (size_t index = 0; index < layers.size(); ++index) {
        if (const auto* linear = std::get_if<LinearParams>(&layers[index].params))
            linears.push_back({*linear, format.offsets[index]});
        else
            body.push_back(layers[index]);
    }
    if (body.empty()) return;
    images_result = result_shape(body);
    if (x.size(0) == 0) return;
    launch(op, x, [&](const cuda::Gpu& gpu, cuda::Stream) {
        const LaunchPlanner planner{type, packed_type, gpu, scratch_bytes};
        if (format.joined) {
            const auto& block = std::get<InvertedResidualParams>(body[1].params);
            launches.push_back({planner.joined(std::get<StemParams>(body[0].params), block), format.offsets[0]});
        }
        for (size_t index = format.joined ? 2 : 0; index < body.size(); ++index)
            launches.push_back({std::visit(planner, body[index].params), format.offsets[index]});
    });
    const size_t joined = body.size() - launches.size();
    std::array<int64_t, 2> bytes{};
    for (size_t index = 0; index + 1 < launches.size(); ++index)
        bytes[index % 2] = std::max(bytes[index % 2], result_bytes(body[index + joined], type));
    for (size_t index = 0; index < bytes.size(); ++index) activations[index] = matrix_shape(x.size(0), bytes[index]);
}

bool CudaPlan::serves(const char* op, const Tensor& x, const Tensor& packed) const
{
    if (device_of(x) != device) return false;
    check_bytes({op, "packed"}, packed, device);
    return packed.numel() == packed_bytes && is_aligned(packed);
}

}  // namespace mnv2::ops
