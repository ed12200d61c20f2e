#include "core/layer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

namespace mnv2 {
namespace {

constexpr LayerKind kinds[] = {LayerKind::stem, LayerKind::block, LayerKind::head_pool, LayerKind::linear};
constexpr int64_t max_int8_image_channels = 64;  // whose bytes around an image stand in one line of packed weights
constexpr std::string_view separator = "; ", same = "same";

std::string quoted(std::string_view text)
{
    return '"' + std::string(text) + '"';
}

std::string tuple_of(std::span<const int64_t> values)
{
    std::string text = "(";
    for (const int64_t value : values) {
        if (text.size() > 1) text += ", ";
        text += std::to_string(value);
    }
    return text + (values.size() == 1 ? ",)" : ")");
}

std::array<int64_t, 4> sides_of(const Padding& padding)
{
    return {padding.top, padding.left, padding.bottom, padding.right};
}

bool has_window(const Layer& layer)
{
    return layer.kind == LayerKind::stem || layer.kind == LayerKind::block;
}

std::optional<LayerError> find_channel_error(const Layer& layer)
{
    const auto check = [](const char* argument, int64_t channels) -> std::optional<LayerError> {
        if (channels >= 1 && channels <= max_channels) return std::nullopt;
        return layer_error(argument, "1 to " + std::to_string(max_channels) + " channels", std::to_string(channels));
    };
    if (auto error = check("in_channels", layer.in_channels)) return error;
    if (layer.kind == LayerKind::stem && layer.arithmetic == Arithmetic::int8 && layer.in_channels > max_int8_image_channels)
        return layer_error("in_channels", "1 to " + std::to_string(max_int8_image_channels) + " channels of an int8 stem",
                           std::to_string(layer.in_channels));
    if (layer.kind == LayerKind::block)
        if (auto error = check("expanded_channels", layer.expanded_channels)) return error;
    if (layer.squeezed_channels != 0)
        if (auto error = check("squeezed_channels", layer.squeezed_channels)) return error;
    return check("out_channels", layer.out_channels);
}

std::optional<LayerError> find_window_error(const Layer& layer)
{
    int32_t unused = 0;
    if (auto error = set_kernel(layer.kernel, unused)) return error;
    if (auto error = set_stride(layer.stride, unused)) return error;
    if (layer.is_same_padded) return std::nullopt;
    const std::array<int64_t, 4> sides = sides_of(layer.padding);
    Padding unused_padding;
    return set_padding(sides, layer.kernel, unused_padding);
}

std::optional<LayerError> find_block_error(const Layer& layer)
{
    if (!layer.has_expand && layer.expanded_channels != layer.in_channels)
        return layer_error("expanded_channels", std::to_string(layer.in_channels) + " (in_channels, without expand)",
                           std::to_string(layer.expanded_channels));
    const Layer plain;
    const bool names_gate =
        layer.squeeze_activation != plain.squeeze_activation || layer.excite_activation != plain.excite_activation;
    if (names_gate && !layer.squeezed_channels) return layer_error("squeezed_channels", "those of a gate", "none");
    if (!layer.has_residual) return std::nullopt;
    const int32_t side = most_padding(layer.kernel);
    const Padding symmetric{side, side, side, side};
    if (layer.stride != 1) return layer_error("residual", "stride 1", std::to_string(layer.stride));
    if (layer.in_channels != layer.out_channels)
        return layer_error("residual", "equal input and output channels",
                           std::to_string(layer.in_channels) + " and " + std::to_string(layer.out_channels));
    if (!layer.is_same_padded && layer.padding != symmetric)
        return layer_error("residual", "padding " + tuple_of(sides_of(symmetric)), tuple_of(sides_of(layer.padding)));
    return std::nullopt;
}

// "1, 2 or 3": words with commas between them, and "or" before the last one.
std::string any_of(std::span<const std::string> words)
{
    std::string text;
    for (size_t index = 0; index < words.size(); ++index) {
        if (index > 0) text += index + 1 == words.size() ? " or " : ", ";
        text += words[index];
    }
    return text;
}

template <class Values, class Word>
std::string any_of(const Values& values, const Word& word)
{
    std::vector<std::string> words;
    std::transform(std::begin(values), std::end(values), std::back_inserter(words), word);
    return any_of(words);
}

// --- text ---

// Takes what stands in front of a separator, and both from the text; spaces in front go, too.
std::string_view take_until(char end_mark, std::string_view& text)
{
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    const size_t end = std::min(text.find(end_mark), text.size());
    const std::string_view taken = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return taken;
}

// Reads options by name into a layer.
class Reader {
public:
    std::optional<LayerError> read(std::string_view words, Layer& layer)
    {
        const std::string_view kind = take_until(' ', words);
        const auto* const found =
            std::find_if(std::begin(kinds), std::end(kinds), [&](LayerKind each) { return kind == layer_kind_name(each); });
        if (found == std::end(kinds)) return layer_error("", expected_kinds, quoted(kind));
        layer = {};
        layer.kind = *found;
        layer.activation = default_activation(layer.kind);
        std::vector<std::string_view> seen;
        while (!words.empty()) {
            std::string_view value = take_until(' ', words);
            if (value.empty()) continue;
            const std::string_view name = take_until('=', value);
            if (std::find(seen.begin(), seen.end(), name) != seen.end())
                return layer_error(std::string(name), "one value", "another one: " + quoted(value));
            seen.push_back(name);
            if (auto error = set(name, value, layer)) return error;
        }
        if (auto error = set_dependent(layer)) return error;
        return find_error(layer);
    }

private:
    std::optional<LayerError> set(std::string_view name, std::string_view value, Layer& layer)
    {
        const bool window = has_window(layer), block = layer.kind == LayerKind::block;
        if (name == "in_channels") return set_number(name, value, layer.in_channels);
        if (name == "out_channels") return set_number(name, value, layer.out_channels);
        if (name == "expanded_channels" && block) return set_number(name, value, layer.expanded_channels);
        if (name == "kernel" && window) return set_number_by(set_kernel, name, value, layer.kernel);
        if (name == "stride" && window) return set_number_by(set_stride, name, value, layer.stride);
        if (name == "padding" && window) return set_padding_text(value, layer);
        if (name == "activation") return set_activation(value, layer.activation, "activation");
        if (name == "depthwise_activation" && block) return keep(value, depthwise_activation_);
        if (name == "squeezed_channels" && block) return set_number(name, value, layer.squeezed_channels);
        if (name == "squeeze_activation" && block) return set_activation(value, layer.squeeze_activation, "squeeze_activation");
        if (name == "excite_activation" && block) return set_excite_activation(value, layer.excite_activation);
        if (name == "project_activation" && block) return set_activation(value, layer.project_activation, "project_activation");
        if (name == "expand" && block) return set_flag(name, value, layer.has_expand);
        if (name == "residual" && block) return set_flag(name, value, layer.has_residual);
        if (name == "arithmetic") return set_arithmetic(value, layer.arithmetic);
        if (name == "bytes_as" && layer.kind == LayerKind::stem) return set_bytes_as(value, layer.bytes_as);
        return layer_error("", std::string("an option of a ") + layer_kind_name(layer.kind), quoted(name));
    }

    static std::optional<LayerError> set_number(std::string_view name, std::string_view text, int64_t& number)
    {
        const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), number);
        if (result.ec == std::errc{} && result.ptr == text.data() + text.size()) return std::nullopt;
        return layer_error(std::string(name), "a number", quoted(text));
    }

    template <class Set>
    static std::optional<LayerError> set_number_by(const Set& set, std::string_view name, std::string_view text, int32_t& to)
    {
        int64_t number = 0;
        if (auto error = set_number(name, text, number)) return error;
        return set(number, to);
    }

    static std::optional<LayerError> keep(std::string_view text, std::optional<std::string_view>& to)
    {
        to = text;
        return std::nullopt;
    }

    // Options whose meaning depends on others, which may come behind them.
    std::optional<LayerError> set_dependent(Layer& layer) const
    {
        if (!sides_.empty())
            if (auto error = set_padding(sides_, layer.kernel, layer.padding)) return error;
        return depthwise_activation_ ? set_depthwise_activation(*depthwise_activation_, layer) : std::nullopt;
    }

    static std::optional<LayerError> set_flag(std::string_view name, std::string_view text, bool& flag)
    {
        if (text != "0" && text != "1") return layer_error(std::string(name), "0 or 1", quoted(text));
        flag = text == "1";
        return std::nullopt;
    }

    static std::optional<LayerError> set_arithmetic(std::string_view text, Arithmetic& arithmetic)
    {
        for (const Arithmetic each : {Arithmetic::floats, Arithmetic::int8}) {
            if (text != arithmetic_name(each)) continue;
            arithmetic = each;
            return std::nullopt;
        }
        return layer_error("arithmetic", "\"float\" or \"int8\"", quoted(text));
    }

    static std::optional<LayerError> set_bytes_as(std::string_view text, std::optional<ScalarType>& bytes_as)
    {
        bytes_as = scalar_type_named(text);
        if (bytes_as) return std::nullopt;
        return layer_error("bytes_as", "\"float32\", \"float16\" or \"bfloat16\"", quoted(text));
    }

    std::optional<LayerError> set_padding_text(std::string_view text, Layer& layer)
    {
        layer.is_same_padded = text == same;
        if (layer.is_same_padded) return std::nullopt;
        for (bool more = true; more;) {
            const std::string_view rest = text;
            const std::string_view side = take_until(',', text);
            more = side.end() != rest.end();
            if (auto error = set_number("padding", side, sides_.emplace_back())) return error;
        }
        return std::nullopt;
    }

    std::vector<int64_t> sides_;
    std::optional<std::string_view> depthwise_activation_;
};

void write(std::string& text, const char* name, const std::string& value)
{
    text += std::string(" ") + name + '=' + value;
}

}  // namespace

LayerError layer_error(std::string argument, const std::string& expected, const std::string& got)
{
    return {std::move(argument), "expected " + expected + ", got " + got};
}

std::optional<LayerError> set_activation(std::string_view name, Activation& activation, const char* argument)
{
    const std::optional<Activation> named = activation_named(name);
    const auto word = [](const ActivationEntry& entry) { return quoted(entry.name); };
    if (!named) return layer_error(argument, any_of(activation_table, word), quoted(name));
    activation = *named;
    return std::nullopt;
}

std::optional<LayerError> set_depthwise_activation(std::string_view name, Layer& layer)
{
    Activation activation{};
    if (auto error = set_activation(name, activation, "depthwise_activation")) return error;
    layer.depthwise_activation = activation == layer.activation ? std::nullopt : std::optional(activation);
    return std::nullopt;
}

std::optional<LayerError> set_excite_activation(std::string_view name, GateActivation& activation)
{
    const std::optional<GateActivation> named = gate_activation_named(name);
    if (!named) return layer_error("excite_activation", any_of(gate_activation_names, quoted), quoted(name));
    activation = *named;
    return std::nullopt;
}

std::optional<LayerError> set_kernel(int64_t value, int32_t& kernel)
{
    const auto* const known = std::find(std::begin(kernel_sizes), std::end(kernel_sizes), value);
    const auto word = [](int32_t size) { return std::to_string(size); };
    if (known == std::end(kernel_sizes)) return layer_error("kernel", any_of(kernel_sizes, word), std::to_string(value));
    kernel = *known;
    return std::nullopt;
}

std::optional<LayerError> set_padding(std::span<const int64_t> sides, int32_t kernel, Padding& padding)
{
    const int32_t most = most_padding(kernel);
    const bool valid =
        sides.size() == 4 && std::all_of(sides.begin(), sides.end(), [&](int64_t side) { return side >= 0 && side <= most; });
    const std::string range = most == 1 ? "0 or 1" : "0 to " + std::to_string(most);
    if (!valid) return layer_error("padding", "(top, left, bottom, right), each " + range, tuple_of(sides));
    const auto side = [&](size_t index) { return static_cast<int32_t>(sides[index]); };
    padding = {side(0), side(1), side(2), side(3)};
    return std::nullopt;
}

std::optional<LayerError> set_stride(int64_t value, int32_t& stride)
{
    if (value != 1 && value != 2) return layer_error("stride", "1 or 2", std::to_string(value));
    stride = static_cast<int32_t>(value);
    return std::nullopt;
}

std::optional<LayerError> find_error(const Layer& layer)
{
    if (auto error = find_channel_error(layer)) return error;
    if (has_window(layer))
        if (auto error = find_window_error(layer)) return error;
    return layer.kind == LayerKind::block ? find_block_error(layer) : std::nullopt;
}

std::string text_of(const Layer& layer)
{
    const Layer missing;
    std::string text = layer_kind_name(layer.kind);
    write(text, "in_channels", std::to_string(layer.in_channels));
    if (layer.kind == LayerKind::block) write(text, "expanded_channels", std::to_string(layer.expanded_channels));
    write(text, "out_channels", std::to_string(layer.out_channels));
    if (layer.kernel != missing.kernel) write(text, "kernel", std::to_string(layer.kernel));
    if (layer.stride != missing.stride) write(text, "stride", std::to_string(layer.stride));
    if (layer.is_same_padded) {
        write(text, "padding", std::string(same));
    } else if (layer.padding != missing.padding) {
        std::string sides;
        for (const int64_t side : sides_of(layer.padding)) {
            if (!sides.empty()) sides += ',';
            sides += std::to_string(side);
        }
        write(text, "padding", sides);
    }
    if (layer.activation != default_activation(layer.kind)) write(text, "activation", activation_name(layer.activation));
    if (layer.depthwise_activation) write(text, "depthwise_activation", activation_name(*layer.depthwise_activation));
    if (layer.project_activation != missing.project_activation)
        write(text, "project_activation", activation_name(layer.project_activation));
    if (!layer.has_expand) write(text, "expand", "0");
    if (layer.squeezed_channels) write(text, "squeezed_channels", std::to_string(layer.squeezed_channels));
    if (layer.squeeze_activation != missing.squeeze_activation)
        write(text, "squeeze_activation", activation_name(layer.squeeze_activation));
    if (layer.excite_activation != missing.excite_activation)
        write(text, "excite_activation", gate_activation_name(layer.excite_activation));
    if (layer.has_residual) write(text, "residual", "1");
    if (layer.arithmetic != missing.arithmetic) write(text, "arithmetic", arithmetic_name(layer.arithmetic));
    if (layer.bytes_as) write(text, "bytes_as", scalar_type_name(*layer.bytes_as));
    return text;
}

std::string text_of(std::span<const Layer> layers)
{
    std::string text;
    for (const Layer& layer : layers) {
        if (!text.empty()) text += separator;
        text += text_of(layer);
    }
    return text;
}

std::optional<LayerError> read_layers(std::string_view text, std::vector<Layer>& layers)
{
    layers.clear();
    const bool is_single = text.find(';') == std::string_view::npos;
    while (!text.empty()) {
        const std::string name = "layers[" + std::to_string(layers.size()) + "]";
        auto error = Reader().read(take_until(';', text), layers.emplace_back());
        if (!error) continue;
        if (is_single)
            error->argument = error->argument.empty() ? "layers" : error->argument;
        else
            error->argument = error->argument.empty() ? name : name + ": " + error->argument;
        return error;
    }
    return std::nullopt;
}

}  // namespace mnv2
