// The checks of pack and run as operators, of any device: what a kernel that is not written in C++ calls first.
#include <torch/csrc/stable/library.h>

#include <cstdint>
#include <iterator>
#include <string>

#include "torch/arguments.h"
#include "torch/checks.h"
#include "torch/prepared.h"

namespace mnv2::ops::checking {
namespace {

constexpr ServedOptions triton{.backend = "Triton",
                               .kernels = true,
                               .curves = true,
                               .depthwise_activation = true,
                               .gates = true,
                               .linear_activation = true,
                               .linear_chains = true};

// Layers that kernels which are not written in C++ take.
Layers read_served(const char* op, const std::string& text)
{
    Layers layers = read_float_chain(op, text);
    refuse_unserved(op, layers, triton);
    return layers;
}

int64_t position_of(ScalarType type)
{
    int64_t position = 0;
    while (packed_types[position] != type) ++position;
    return position;
}

int64_t check_pack_alone(const char* op, const OptionalTensors& weights, const Layers& layers)
{
    const std::vector<LayerArguments> arguments = layer_arguments(op, layers, weights);
    check_weights(arguments, std::nullopt, device_of(first_weight(op, weights)));
    return position_of(weights_type(arguments));
}

// As an operator of one layer checks them: x's dimensions come before the layer, whose channels its caller took from x.
int64_t check_pack_for(const char* op, const OptionalTensors& weights, const std::string& text, const Tensor& x)
{
    const bool is_linear = text.starts_with("linear");
    const InputView view = is_linear ? check_vectors({op, "x"}, x) : check_input({op, "x"}, x);
    Layers layers = read_served(op, text);
    check_weights(layer_arguments(op, layers, weights), view.dtype, device_of(x));
    complete_by({op, "x"}, x, layers);
    return position_of(view.dtype);
}

// Without x checks weights that are packed by themselves, with x those of an operator that packs them for one call. Returns
// the position in packed_types of the dtype to pack for.
int64_t check_pack(const OptionalTensors& weights, const std::string& text, const OptionalTensor& x, const std::string& name)
{
    const char* op = name.c_str();
    const OptionalTensors given = without_undefined(weights);
    return x ? check_pack_for(op, given, text, *x) : check_pack_alone(op, given, read_served(op, text));
}

// Planning is left to the kernels that are not written in C++.
struct ChecksAlone {
    ChecksAlone(const char* op, const Layers& layers, ScalarType, const Tensor&, const Tensor&)
    {
        refuse_unserved(op, layers, triton);
    }
    bool serves(const char*, const Tensor&, const Tensor&) const { return true; }
};

// lengths: bytes of these layers packed for float32, float16 and bfloat16; returns the position of the one that came.
int64_t check_run(const Tensor& x, const Tensor& packed, const Integers& lengths, const std::string& text)
{
    constexpr const char* op = "run";
    if (lengths.size() != std::size(packed_types))
        refuse({op, "lengths"}, "one for each of 3 dtypes", std::to_string(lengths.size()));
    find_prepared<ChecksAlone>(op, text, x, packed);
    return position_of(check_packed_length({op, "packed"}, x, packed, lengths));
}

}  // namespace
}  // namespace mnv2::ops::checking

STABLE_TORCH_LIBRARY_IMPL(mnv2, CompositeExplicitAutograd, m)
{
    m.impl("check_pack", TORCH_BOX(&mnv2::ops::checking::check_pack));
    m.impl("check_run", TORCH_BOX(&mnv2::ops::checking::check_run));
}
