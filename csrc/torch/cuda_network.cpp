// A whole network on NVIDIA's GPUs in one call: all its launches at once, on two buffers, and nothing that waits for the
// device.
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "cuda/launch.h"
#include "torch/allocate.h"
#include "torch/cuda_launch.h"
#include "torch/cuda_ops.h"
#include "torch/cuda_weights.h"
#include "torch/known_layers.h"
#include "torch/weights.h"

namespace mnv2::ops {
namespace {

// Gives every layer its weights and returns the types that they are packed for; joined layers have both with the first.
std::vector<ScalarType> check_weights(const char* op, const Tensor& x, const std::vector<Tensor>& packed,
                                      const std::vector<PackedLengths>& lengths, DescribedLayers& described)
{
    const size_t joined = described.is_joined ? 1 : 0;
    if (packed.size() != lengths.size())
        refuse({op, "packed"},
               std::to_string(lengths.size()) +
                   (joined ? " tensors, one a layer and one for the joined layers" : " tensors, one a layer"),
               std::to_string(packed.size()));
    if (joined && lengths[0] == PackedLengths{})
        refuse({op, "layers[0]: joined"}, "0 for a stem and a block that no kernel computes together", "1");
    std::vector<ScalarType> types(described.layers.size());
    for (size_t place = 0; place < packed.size(); ++place) {
        const size_t index = place == 0 ? 0 : place + joined;
        types[index] = check_packed({op, "packed[" + std::to_string(place) + "]"}, x, packed[place], lengths[place]);
        described.layers[index].packed = packed[place].const_data_ptr();
    }
    return types;
}

// Of the images that a layer leaves to the next; 0 where it leaves none.
int64_t image_bytes(const LayerParams& layer, ScalarType type)
{
    const auto bytes = [&](const auto& params) -> int64_t {
        if constexpr (requires { params.padding; })
            return params.out_height() * params.out_width() * params.out_channels * scalar_bytes(type);
        else
            return 0;
    };
    return std::visit(bytes, layer);
}

// Where layers leave their images: two buffers in turn, as a layer needs but those of the one before.
class Activations {
public:
    Activations(const char* op, const Tensor& x, const DescribedLayers& described, ScalarType type)
        : buffers_{allocate_buffer(op, x, described, type, 0), allocate_buffer(op, x, described, type, 1)}
    {
    }

    void* of(size_t layer) { return buffers_[layer % buffers_.size()].mutable_data_ptr(); }

private:
    static Tensor allocate_buffer(const char* op, const Tensor& x, const DescribedLayers& described, ScalarType type,
                                  size_t first)
    {
        int64_t bytes = 0;
        for (size_t index = first; index < described.layers.size(); index += 2) {
            const bool leaves_none = described.is_joined && index == 0;
            if (!leaves_none) bytes = std::max(bytes, image_bytes(described.layers[index].params, type));
        }
        return allocate(op, {x.size(0), bytes}, torch::headeronly::ScalarType::Byte, x);
    }

    std::array<Tensor, 2> buffers_;
};

// The launches of all layers but a linear one, which is torch's.
class NetworkLaunch {
public:
    NetworkLaunch(const DescribedLayers& described, const std::vector<ScalarType>& types, ScalarType x_type,
                  Activations& activations, const cuda::Gpu& gpu, cuda::Stream stream)
        : described_(described), types_(types), x_type_(x_type), activations_(activations), gpu_(gpu), stream_(stream)
    {
    }

    // x: strided in any way for a stem, else channels_last. pooled: the head's result.
    void run(const InputView& x, void* pooled)
    {
        const void* images = x.data;
        size_t index = 0;
        if (described_.is_joined) {
            const StemBlockParams params = joined_layers(described_.layers);
            void* const y = activations_.of(1);
            cuda::stem_block(params.stem, params.block, x, described_.layers[0].packed, y, gpu_, stream_);
            images = y;
            index = 2;
        } else if (const auto* stem = std::get_if<StemParams>(&described_.layers[0].params)) {
            void* const y = activations_.of(0);
            cuda::stem(*stem, types_[0], x, described_.layers[0].packed, y, gpu_, stream_);
            images = y;
            index = 1;
        }
        for (; const auto* block = std::get_if<InvertedResidualParams>(&described_.layers[index].params); ++index) {
            void* const y = activations_.of(index);
            cuda::inverted_residual(*block, x_type_, types_[index], images, described_.layers[index].packed, y, gpu_, stream_);
            images = y;
        }
        cuda::head_pool(std::get<HeadPoolParams>(described_.layers[index].params), x_type_, types_[index], images,
                        described_.layers[index].packed, pooled, gpu_, stream_);
    }

private:
    const DescribedLayers& described_;
    const std::vector<ScalarType>& types_;
    const ScalarType x_type_;
    Activations& activations_;
    const cuda::Gpu& gpu_;
    const cuda::Stream stream_;
};

// Exactly a stem and its block.
StemBlockParams read_stem_block(const char* op, const std::string& layers)
{
    const DescribedLayers described = read_layers(op, layers);
    if (described.layers.size() != 2 || !described.is_joined)
        refuse({op, "layers"}, "a stem, joined, and a block", std::to_string(described.layers.size()) + " layers");
    return joined_layers(described.layers);
}

}  // namespace

Tensor network_layers(const Tensor& x, const std::vector<Tensor>& packed, const std::string& layers)
{
    constexpr const char* op = "network_layers";
    const InputView view = check_input({op, "x"}, x);
    const std::shared_ptr<const KnownLayers> known = known_layers(op, layers);
    DescribedLayers described = known->described;
    check_image({op, "x"}, described.layers, x);
    const std::vector<ScalarType> types = check_weights(op, x, packed, known->lengths, described);

    const LayerParams& last = described.layers.back().params;
    const auto* linear = std::get_if<LinearParams>(&last);
    if (x.size(0) == 0) return allocate(op, {0, channels_of(last).out}, x.scalar_type(), x);
    const int64_t pooled_channels = linear ? linear->in_features : channels_of(last).out;
    Tensor pooled = allocate(op, {x.size(0), pooled_channels}, x.scalar_type(), x);
    Activations activations(op, x, described, view.dtype);
    const bool has_stem = std::holds_alternative<StemParams>(described.layers.front().params);
    const Tensor image = has_stem ? x : channels_last(x);
    InputView input = view;
    input.data = image.const_data_ptr();
    launch(op, x, [&](const cuda::Gpu& gpu, cuda::Stream stream) {
        NetworkLaunch(described, types, view.dtype, activations, gpu, stream).run(input, pooled.mutable_data_ptr());
    });
    return linear ? CudaBackend::run(op, *linear, pooled, InputView{}, packed.back()) : pooled;
}

Tensor pack_stem_block(const Tensor& stem_weight, const OptionalTensor& stem_scale, const OptionalTensor& stem_bias,
                       const Tensor& depthwise_weight, const OptionalTensor& depthwise_scale,
                       const OptionalTensor& depthwise_bias, const Tensor& project_weight, const OptionalTensor& project_scale,
                       const OptionalTensor& project_bias, const std::string& layers)
{
    constexpr const char* op = "pack_stem_block";
    const StemBlockParams params = read_stem_block(op, layers);
    const Device device = device_of(stem_weight);
    const Integers stem_shape{params.stem.out_channels, params.stem.in_channels, kernel_size, kernel_size};
    const ConvolutionTensors stem({op, "stem_", stem_weight, stem_scale, stem_bias}, stem_shape, std::nullopt, device);
    const ConvolutionTensors depthwise({op, "depthwise_", depthwise_weight, depthwise_scale, depthwise_bias},
                                       depthwise_shape(params.block), std::nullopt, device);
    const ConvolutionTensors project({op, "project_", project_weight, project_scale, project_bias}, project_shape(params.block),
                                     std::nullopt, device);

    const bool alike = stem.type() == depthwise.type() && stem.type() == project.type();
    const ScalarType type = alike ? stem.type() : ScalarType::float32;
    const int64_t length = length_of(params, type);
    if (length == 0)
        refuse({op, "layers"}, "a stem and a block that one kernel computes",
               std::string("none, of ") + scalar_type_name(type) + " weights");
    Tensor packed = allocate_packed(op, length, stem_weight);
    launch(op, packed, [&](const cuda::Gpu&, cuda::Stream stream) {
        cuda::pack_stem_block(params.stem, params.block, type, stem.view(), depthwise.view(), project.view(),
                              packed.mutable_data_ptr(), stream);
    });
    return packed;
}

int64_t cuda_stem_block_bytes(const std::string& layers, const std::string& dtype)
{
    constexpr const char* op = "cuda_stem_block_bytes";
    return length_of(read_stem_block(op, layers), check_dtype(op, dtype));
}

}  // namespace mnv2::ops
