#include "torch/known_layers.h"

#include <mutex>
#include <unordered_map>
#include <variant>

namespace mnv2::ops {
namespace {

KnownLayers read(const char* op, const std::string& layers)
{
    KnownLayers known{read_network_layers(op, layers), {}};
    const DescribedLayers& described = known.described;
    if (described.is_joined) known.lengths.push_back(lengths_of(joined_layers(described.layers)));
    for (size_t index = described.is_joined ? 2 : 0; index < described.layers.size(); ++index)
        known.lengths.push_back(
            std::visit([](const auto& params) { return lengths_of(params); }, described.layers[index].params));
    return known;
}

}  // namespace

std::shared_ptr<const KnownLayers> known_layers(const char* op, const std::string& layers)
{
    constexpr size_t most_kept = 64;  // of 3 KB and as much again
    static std::mutex mutex;
    static std::unordered_map<std::string, std::shared_ptr<const KnownLayers>> kept;
    {
        const std::lock_guard lock(mutex);
        if (const auto found = kept.find(layers); found != kept.end()) return found->second;
    }
    auto known = std::make_shared<const KnownLayers>(read(op, layers));
    const std::lock_guard lock(mutex);
    if (kept.size() >= most_kept) kept.clear();
    kept.emplace(layers, known);
    return known;
}

}  // namespace mnv2::ops
