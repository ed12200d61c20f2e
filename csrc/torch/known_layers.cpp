#include "torch/known_layers.h"

#include <mutex>
#include <optional>
#include <unordered_map>

#include "core/layer.h"
#include "torch/checks.h"

namespace mnv2::ops {
namespace {

Layers read(const char* op, const std::string& text)
{
    std::vector<Layer> layers;
    refuse_if(op, read_layers(text, layers));
    Layers network;
    for (const Layer& layer : layers) network.push_back(to_network_layer(layer));
    if (const std::optional<ChainMismatch> mismatch = chain_mismatch(network)) {
        const std::string name = mismatch->layer ? "layers[" + std::to_string(*mismatch->layer) + "]" : "layers";
        refuse({op, name}, mismatch->text);
    }
    return network;
}

}  // namespace

std::shared_ptr<const Layers> known_layers(const char* op, const std::string& text)
{
    constexpr size_t most_kept = 64;  // of 3 KB and as much again
    static std::mutex mutex;
    static std::unordered_map<std::string, std::shared_ptr<const Layers>> kept;
    {
        const std::lock_guard lock(mutex);
        if (const auto found = kept.find(text); found != kept.end()) return found->second;
    }
    auto known = std::make_shared<const Layers>(read(op, text));
    const std::lock_guard lock(mutex);
    if (kept.size() >= most_kept) kept.clear();
    kept.emplace(text, known);
    return known;
}

}  // namespace mnv2::ops
