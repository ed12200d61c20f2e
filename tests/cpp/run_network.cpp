// A packed network on images, without torch: run_network PACKED IMAGES DTYPE BATCH HEIGHT WIDTH RESULT
//
// PACKED holds the bytes of mnv2::pack_network, made on any machine: the weights are packed anew for the instruction set that
// runs. IMAGES is a contiguous NCHW array of DTYPE (float32, float16 or bfloat16); the result is
// written in the same type. Prints the name of the instruction set.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "core/network.h"
#include "cpu/isa/dispatch.h"
#include "cpu/run/network.h"

namespace mnv2 {
namespace {

using Bytes = std::vector<char>;

Bytes read_file(const char* path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string(path) + ": cannot be read");
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// One convolution as it was before packing.
struct Unpacked {
    std::vector<float> weight, scale, bias;
    ConvolutionWeights view() const { return {weight.data(), scale.data(), bias.data()}; }
};

// What core/packing.h says of panels, read backwards; moves packed behind them. Panels of layers that are not pointwise never
// hold two depths.
Unpacked unpack(const float*& packed, int64_t depth, int64_t channels, int64_t panel, const PackLayout& layout,
                bool is_pointwise)
{
    const auto depth_size = static_cast<size_t>(depth), size = static_cast<size_t>(channels);
    Unpacked layer{std::vector<float>(size * depth_size), std::vector<float>(size), std::vector<float>(size)};
    for (int64_t first = 0; first < channels; first += panel) {
        const int64_t count = std::min(panel, channels - first), width = round_up(count, layout.vector_width);
        const int64_t half_width = round_up(count, layout.vector_width / 2);
        const bool two_depths = is_pointwise && has_two_depths(count, layout);
        const auto place = [&](int64_t i, int64_t k) {
            return two_depths ? (k / 2 * half_width + i) * 2 + k % 2 : k * width + i;
        };
        for (int64_t i = 0; i < count; ++i) {
            layer.scale[first + i] = packed[i];
            layer.bias[first + i] = packed[width + i];
            for (int64_t k = 0; k < depth; ++k) layer.weight[(first + i) * depth + k] = packed[2 * width + place(i, k)];
        }
        packed += is_pointwise ? panel_floats(depth, count, layout) : width * (depth + 2);
    }
    return layer;
}

class Repacker {
public:
    Repacker(const PackLayout& from, const PackLayout& to) : from_(from), to_(to) {}

    Bytes operator()(const InvertedResidualParams& params, const float* values) const
    {
        const Unpacked expand =
            params.has_expand ? pointwise(values, params.in_channels, params.expanded_channels) : Unpacked{};
        const Unpacked depthwise = unpack(values, params.taps(), params.expanded_channels, from_.vector_width, from_, false);
        const Unpacked project = pointwise(values, params.expanded_channels, params.out_channels);
        return packed(
            params, [&](void* to) { pack_block(params, {expand.view(), depthwise.view(), project.view(), {}, {}}, to_, to); });
    }
    Bytes operator()(const StemParams& params, const float* values) const
    {
        const Unpacked layer = unpack(values, params.taps() * params.in_channels, params.out_channels, panel(), from_, false);
        return packed(params, [&](void* to) { pack_stem(params, layer.view(), to_, to); });
    }
    Bytes operator()(const HeadPoolParams& params, const float* values) const
    {
        const Unpacked layer = pointwise(values, params.in_channels, params.out_channels);
        return packed(params, [&](void* to) { pack_head_pool(params, layer.view(), to_, to); });
    }
    Bytes operator()(const LinearParams& params, const float* values) const
    {
        const Unpacked layer = pointwise(values, params.in_features, params.out_features);
        return packed(params, [&](void* to) { pack_linear(params, layer.view(), to_, to); });
    }

private:
    int64_t panel() const { return static_cast<int64_t>(from_.panel_vectors) * from_.vector_width; }

    Unpacked pointwise(const float*& values, int64_t depth, int64_t channels) const
    {
        return unpack(values, depth, channels, panel(), from_, true);
    }
    template <class Params, class Pack>
    Bytes packed(const Params& params, const Pack& pack) const
    {
        Bytes bytes(static_cast<size_t>(packed_bytes(params, to_)));
        pack(bytes.data());
        return bytes;
    }

    PackLayout from_, to_;
};

Bytes repack(const Bytes& packed, const PackLayout& layout)
{
    std::vector<NetworkLayer> layers;
    const std::string mismatch = read_network(packed.data(), static_cast<int64_t>(packed.size()), layers);
    if (!mismatch.empty()) throw std::runtime_error(mismatch);
    const PackLayout from = packed_layout(packed.data());
    if (from.stored != ScalarType::float32) throw std::runtime_error("expected weights packed for float32 arithmetic");
    const Repacker repacker(from, layout);
    std::vector<Bytes> buffers;
    for (const NetworkLayer& layer : layers) {
        const float* values = packed_values(packed.data() + layer.packed_at);
        buffers.push_back(std::visit([&](const auto& params) { return repacker(params, values); }, layer.params));
    }
    std::vector<PackedLayer> parts;
    for (size_t i = 0; i < layers.size(); ++i)
        parts.push_back({buffers[i].data(), static_cast<int64_t>(buffers[i].size()), layers[i].same_padding});
    Bytes result(static_cast<size_t>(packed_network_bytes(parts)));
    pack_network(parts, result.data());
    return result;
}

void run(char** arguments)
{
    const std::optional<ScalarType> named = scalar_type_named(arguments[2]);
    if (!named) throw std::runtime_error(std::string("unknown dtype ") + arguments[2]);
    const ScalarType dtype = *named;
    const int64_t batch = std::stoll(arguments[3]), height = std::stoll(arguments[4]), width = std::stoll(arguments[5]);
    const cpu::Kernels& kernels = cpu::select_kernels(dtype);
    const Bytes packed = repack(read_file(arguments[0]), kernels.layout), images = read_file(arguments[1]);

    std::vector<NetworkLayer> layers;
    const std::string mismatch = read_network(packed.data(), static_cast<int64_t>(packed.size()), layers);
    if (!mismatch.empty()) throw std::runtime_error(mismatch);
    const int64_t channels = channels_of(layers.front().params).in, classes = channels_of(layers.back().params).out;
    if (!set_image(layers, batch, height, width) ||
        static_cast<int64_t>(images.size()) != batch * channels * height * width * scalar_bytes(dtype))
        throw std::runtime_error("the images do not fit the network");

    Bytes result(static_cast<size_t>(batch * classes * scalar_bytes(dtype)));
    const int64_t plane = height * width;
    cpu::network(cpu::plan_network(layers, kernels, 1), {images.data(), dtype, channels * plane, plane, width, 1},
                 packed.data(), result.data(), {});
    std::ofstream file(arguments[6], std::ios::binary);
    file.write(result.data(), static_cast<std::streamsize>(result.size()));
    if (!file.flush()) throw std::runtime_error(std::string(arguments[6]) + ": cannot be written");
    std::printf("%s\n", kernels.name);
}

}  // namespace
}  // namespace mnv2

int main(int count, char** arguments)
{
    if (count != 8) {
        std::fprintf(stderr, "run_network PACKED IMAGES DTYPE BATCH HEIGHT WIDTH RESULT\n");
        return 2;
    }
    try {
        mnv2::run(arguments + 1);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
