#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <variant>

#include "core/sizes.h"
#include "cuda/common/packed_length.h"
#include "torch/cuda/weights.h"

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

}  // namespace

const ChainFormat& CudaChain::format(ScalarType type) const
{
    return formats[static_cast<size_t>(std::find(std::begin(packed_types), std::end(packed_types), type) - packed_types)];
}

std::array<int64_t, std::size(packed_types)> CudaChain::lengths() const
{
    std::array<int64_t, std::size(packed_types)> bytes;
    std::transform(formats.begin(), formats.end(), bytes.begin(), [](const ChainFormat& format) { return format.bytes; });
    return bytes;
}

CudaChain chain_of(const Layers& layers)
{
    CudaChain chain{layers, {}};
    std::transform(std::begin(packed_types), std::end(packed_types), chain.formats.begin(),
                   [&](ScalarType type) { return format_of(layers, type); });
    return chain;
}

std::shared_ptr<const CudaChain> known_chain(const char* op, const std::string& text)
{
    constexpr size_t most_kept = 64;
    static std::mutex mutex;
    static std::unordered_map<std::string, std::shared_ptr<const CudaChain>> kept;
    {
        const std::lock_guard lock(mutex);
        if (const auto found = kept.find(text); found != kept.end()) return found->second;
    }
    auto known = std::make_shared<const CudaChain>(chain_of(*known_layers(op, text)));
    const std::lock_guard lock(mutex);
    if (kept.size() >= most_kept) kept.clear();
    kept.emplace(text, known);
    return known;
}

}  // namespace mnv2::ops
