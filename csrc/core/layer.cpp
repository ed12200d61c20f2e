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
    return check("out_channels", layer.out_channels);
}

std::optional<LayerError> find_window_error(const Layer& layer)
{
    if (layer.stride != 1 && layer.stride != 2) return layer_error("stride", "1 or 2", std::to_string(layer.stride));
    const std::array<int64_t, 4> sides = sides_of(layer.padding);
    Padding unused;
    return set_padding(sides, unused);
}

std::optional<LayerError> find_block_error(const Layer& layer)
{
    if (!layer.has_expand && layer.expanded_channels != layer.in_channels)
        return layer_error("expanded_channels", std::to_string(layer.in_channels) + " (in_channels, without expand)",
                           std::to_string(layer.expanded_channels));
    if (!layer.has_residual) return std::nullopt;
    const Padding symmetric;
    if (layer.stride != 1) return layer_error("residual", "stride 1", std::to_string(layer.stride));
    if (layer.in_channels != layer.out_channels)
        return layer_error("residual", "equal input and output channels",
                           std::to_string(layer.in_channels) + " and " + std::to_string(layer.out_channels));
    if (!layer.is_same_padded && layer.padding != symmetric)
        return layer_error("residual", "padding (1, 1, 1, 1)", tuple_of(sides_of(layer.padding)));
    return std::nullopt;
}

// "none", "relu" or "relu6".
std::string expected_activations()
{
    std::string names;
    for (const ActivationEntry& entry : activation_table) {
        if (&entry != std::begin(activation_table)) names += &entry == std::end(activation_table) - 1 ? " or " : ", ";
        names += quoted(entry.name);
    }
    return names;
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
        return find_error(layer);
    }

private:
    static std::optional<LayerError> set(std::string_view name, std::string_view value, Layer& layer)
    {
        const bool window = has_window(layer), block = layer.kind == LayerKind::block;
        if (name == "in_channels") return set_number(name, value, layer.in_channels);
        if (name == "out_channels") return set_number(name, value, layer.out_channels);
        if (name == "expanded_channels" && block) return set_number(name, value, layer.expanded_channels);
        if (name == "stride" && window) return set_stride_text(value, layer.stride);
        if (name == "padding" && window) return set_padding_text(value, layer);
        if (name == "activation" && layer.kind != LayerKind::linear)
            return set_activation(value, layer.activation, "activation");
        if (name == "project_activation" && block) return set_activation(value, layer.project_activation, "project_activation");
        if (name == "expand" && block) return set_flag(name, value, layer.has_expand);
        if (name == "residual" && block) return set_flag(name, value, layer.has_residual);
        if (name == "arithmetic") return set_arithmetic(value, layer.arithmetic);
        return layer_error("", std::string("an option of a ") + layer_kind_name(layer.kind), quoted(name));
    }

    static std::optional<LayerError> set_number(std::string_view name, std::string_view text, int64_t& number)
    {
        const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), number);
        if (result.ec == std::errc{} && result.ptr == text.data() + text.size()) return std::nullopt;
        return layer_error(std::string(name), "a number", quoted(text));
    }

    static std::optional<LayerError> set_stride_text(std::string_view text, int32_t& stride)
    {
        int64_t number = 0;
        if (auto error = set_number("stride", text, number)) return error;
        return set_stride(number, stride);
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

    static std::optional<LayerError> set_padding_text(std::string_view text, Layer& layer)
    {
        layer.is_same_padded = text == same;
        layer.padding = {};
        if (layer.is_same_padded) return std::nullopt;
        std::vector<int64_t> sides;
        for (bool more = true; more;) {
            const std::string_view rest = text;
            const std::string_view side = take_until(',', text);
            more = side.end() != rest.end();
            if (auto error = set_number("padding", side, sides.emplace_back())) return error;
        }
        return set_padding(sides, layer.padding);
    }
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
    if (!named) return layer_error(argument, expected_activations(), quoted(name));
    activation = *named;
    return std::nullopt;
}

std::optional<LayerError> set_padding(std::span<const int64_t> sides, Padding& padding)
{
    const bool valid =
        sides.size() == 4 && std::all_of(sides.begin(), sides.end(), [](int64_t side) { return side == 0 || side == 1; });
    if (!valid) return layer_error("padding", "(top, left, bottom, right), each 0 or 1", tuple_of(sides));
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
    if (layer.activation != missing.activation) write(text, "activation", activation_name(layer.activation));
    if (layer.project_activation != missing.project_activation)
        write(text, "project_activation", activation_name(layer.project_activation));
    if (!layer.has_expand) write(text, "expand", "0");
    if (layer.has_residual) write(text, "residual", "1");
    if (layer.arithmetic != missing.arithmetic) write(text, "arithmetic", arithmetic_name(layer.arithmetic));
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
