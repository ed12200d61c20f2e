#include "torch/layer_description.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "torch/arguments.h"

namespace mnv2::ops {
namespace {

// What stands in front of a separator, which leaves the text with it; spaces in front of it go, too.
std::string_view take_until(char separator, std::string_view& text)
{
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const size_t end = std::min(text.find(separator), text.size());
    const std::string_view taken = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return taken;
}

std::string layer_name(size_t index)
{
    return "layers[" + std::to_string(index) + "]";
}

std::string quoted(std::string_view text)
{
    return '"' + std::string(text) + '"';
}

// The words of one layer. Its name ends the operator's, so that what checks an operator's options names the layer.
class Words {
public:
    Words(const char* op, size_t index, std::string_view words) : op_(std::string(op) + ": " + layer_name(index))
    {
        kind_ = take_until(' ', words);
        while (!words.empty()) {
            std::string_view value = take_until(' ', words);
            const std::string_view name = take_until('=', value);
            options_.push_back({name, value});
        }
    }

    const char* op() const { return op_.c_str(); }
    std::string_view kind() const { return kind_; }

    std::optional<std::string_view> find(std::string_view name) const
    {
        for (const Option& option : options_)
            if (option.name == name) return option.value;
        return std::nullopt;
    }

    int64_t number(const char* name) const
    {
        const std::optional<std::string_view> value = find(name);
        if (!value) refuse({op(), name}, "a number", "none");
        return to_number(name, *value);
    }

    bool flag(const char* name, bool missing) const
    {
        const std::optional<std::string_view> value = find(name);
        if (value && *value != "0" && *value != "1") refuse({op(), name}, "0 or 1", quoted(*value));
        return value ? *value == "1" : missing;
    }

    std::string activation(const char* name, const char* missing) const { return std::string(find(name).value_or(missing)); }

    bool is_same_padded() const { return find("padding") == "same"; }

    // Where SAME is, what it is for stride 1; the image decides for another.
    Integers padding() const
    {
        if (is_same_padded()) return {1, 1, 1, 1};
        Integers sides;
        for (std::string_view left = find("padding").value_or(""); !left.empty();)
            sides.push_back(to_number("padding", take_until(',', left)));
        return sides;
    }

private:
    int64_t to_number(const char* name, std::string_view text) const
    {
        int64_t number = 0;
        const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), number);
        if (result.ec != std::errc{} || result.ptr != text.data() + text.size()) refuse({op(), name}, "a number", quoted(text));
        return number;
    }

    struct Option {
        std::string_view name, value;
    };

    std::string op_;
    std::string_view kind_;
    std::vector<Option> options_;
};

NetworkLayer read_stem(const Words& words)
{
    const Integers padding = words.padding();
    const std::string activation = words.activation("activation", "relu6");
    return {check_stem(words.op(), words.number("in_channels"), words.number("out_channels"),
                       {words.number("stride"), padding, activation}),
            words.is_same_padded(), nullptr};
}

NetworkLayer read_block(const Words& words)
{
    const Integers padding = words.padding();
    const std::string activation = words.activation("activation", "relu6");
    const std::string project_activation = words.activation("project_activation", "none");
    const BlockChannels channels{words.number("in_channels"), words.number("expanded_channels"), words.number("out_channels"),
                                 words.flag("expand", true)};
    const BlockOptions options{words.number("stride"), padding, words.flag("residual", false), activation, project_activation};
    return {check_block(words.op(), channels, options), words.is_same_padded(), nullptr};
}

NetworkLayer read_head(const Words& words)
{
    const std::string activation = words.activation("activation", "relu6");
    return {check_head_pool(words.op(), words.number("in_channels"), words.number("out_channels"), activation), false, nullptr};
}

NetworkLayer read_linear(const Words& words)
{
    return {check_linear(words.op(), words.number("in_features"), words.number("out_features")), false, nullptr};
}

struct Kind {
    const char* name;
    NetworkLayer (*read)(const Words&);
};

constexpr std::array kinds = {Kind{"stem", read_stem}, Kind{"block", read_block}, Kind{"head_pool", read_head},
                              Kind{"linear", read_linear}};

NetworkLayer read_layer(const char* op, size_t index, const Words& words)
{
    for (const Kind& kind : kinds)
        if (words.kind() == kind.name) return kind.read(words);
    refuse({op, layer_name(index)}, "a stem, block, head_pool or linear", quoted(words.kind()));
}

template <class Params>
bool holds(const std::vector<NetworkLayer>& layers, size_t index)
{
    return index < layers.size() && std::holds_alternative<Params>(layers[index].params);
}

}  // namespace

DescribedLayers read_layers(const char* op, const std::string& layers)
{
    DescribedLayers described{{}, false};
    std::optional<size_t> joined;
    for (std::string_view left = layers; !left.empty();) {
        const size_t index = described.layers.size();
        const Words words(op, index, take_until(';', left));
        described.layers.push_back(read_layer(op, index, words));
        if (words.flag("joined", false)) joined = index;
    }
    if (joined &&
        !(joined == size_t{0} && holds<StemParams>(described.layers, 0) && holds<InvertedResidualParams>(described.layers, 1)))
        refuse({op, layer_name(*joined) + ": joined"}, "0 but for a first stem with a block behind it", "1");
    described.is_joined = joined.has_value();
    return described;
}

DescribedLayers read_network_layers(const char* op, const std::string& layers)
{
    DescribedLayers described = read_layers(op, layers);
    if (const std::optional<ChainMismatch> mismatch = chain_mismatch(described.layers))
        refuse({op, mismatch->layer ? layer_name(*mismatch->layer) : "layers"}, mismatch->text);
    return described;
}

}  // namespace mnv2::ops
