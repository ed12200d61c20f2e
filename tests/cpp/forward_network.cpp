// One forward pass of the published network, MobileNetV2 1.0 at 224 x 224, for programs that count what it executes.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "core/network.h"
#include "cpu/isa/dispatch.h"
#include "cpu/run/network.h"

namespace mnv2 {
namespace {

struct Stage {
    int64_t expansion, channels, repeats;
    int32_t stride;
};

constexpr Stage stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                            {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
constexpr int64_t size = 224, classes = 1000;

using Buffer = std::vector<char>;

// The count does not depend on the values; these stay normal numbers.
class Weights {
public:
    Weights() : weight_(1280 * classes), scale_(1280, 0.1f), bias_(1280, 0.5f)
    {
        for (size_t i = 0; i < weight_.size(); ++i) weight_[i] = static_cast<float>(i % 17) * 0.01f - 0.08f;
    }
    ConvolutionWeights view() const { return {weight_.data(), scale_.data(), bias_.data()}; }

private:
    std::vector<float> weight_, scale_, bias_;
};

template <class Params, class Pack>
Buffer pack_layer(const Params& params, const PackLayout& layout, const Pack& pack)
{
    Buffer packed(static_cast<size_t>(packed_bytes(params, layout)));
    pack(packed.data());
    return packed;
}

std::vector<Buffer> pack_layers(const ConvolutionWeights& weights, const PackLayout& layout)
{
    std::vector<Buffer> layers;
    StemParams stem{};
    stem.in_channels = 3;
    stem.out_channels = 32;
    layers.push_back(pack_layer(stem, layout, [&](void* to) { pack_stem(stem, weights, layout, to); }));
    int64_t channels = stem.out_channels;
    for (const Stage& stage : stages)
        for (int64_t repeat = 0; repeat < stage.repeats; ++repeat) {
            InvertedResidualParams block{};
            block.in_channels = channels;
            block.expanded_channels = channels * stage.expansion;
            block.out_channels = stage.channels;
            block.stride = repeat == 0 ? stage.stride : 1;
            block.has_expand = stage.expansion != 1;
            block.has_residual = repeat > 0;
            const auto pack = [&](void* to) { pack_block(block, {weights, weights, weights, {}, {}}, layout, to); };
            layers.push_back(pack_layer(block, layout, pack));
            channels = stage.channels;
        }
    HeadPoolParams head{};
    head.in_channels = channels;
    head.out_channels = 1280;
    layers.push_back(pack_layer(head, layout, [&](void* to) { pack_head_pool(head, weights, layout, to); }));
    const LinearParams linear{0, head.out_channels, classes};
    layers.push_back(pack_layer(linear, layout, [&](void* to) { pack_linear(linear, weights, layout, to); }));
    return layers;
}

int run()
{
    const cpu::Kernels& kernels = cpu::select_kernels();
    const std::vector<Buffer> buffers = pack_layers(Weights().view(), kernels.layout);
    std::vector<PackedLayer> parts;
    for (const Buffer& buffer : buffers) parts.push_back({buffer.data(), static_cast<int64_t>(buffer.size()), false});
    Buffer packed(static_cast<size_t>(packed_network_bytes(parts)));
    pack_network(parts, packed.data());

    std::vector<NetworkLayer> layers;
    const std::string mismatch = read_network(packed.data(), static_cast<int64_t>(packed.size()), layers);
    if (!mismatch.empty() || !set_image(layers, 1, size, size)) {
        std::printf("no network: %s\n", mismatch.c_str());
        return 1;
    }
    const std::vector<float> x(3 * size * size, 0.5f);
    std::vector<float> y(classes);
    cpu::network(cpu::plan_network(layers, kernels, 1), {x.data(), ScalarType::float32, 3 * size * size, size * size, size, 1},
                 packed.data(), y.data(), {});
    std::printf("%s %g\n", kernels.name, static_cast<double>(y[0]));
    return 0;
}

}  // namespace
}  // namespace mnv2

int main()
{
    return mnv2::run();
}
