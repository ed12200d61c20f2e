// What a call of an operator on packed weights needs beside its pointers, made once for all calls that bring the same.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "core/recent.h"
#include "torch/checks.h"

namespace mnv2::ops {

// A Plan is made from layers that x completes, and from packed weights, by Plan(op, layers, type, x, packed), which refuses
// weights that are not theirs. plan.serves(op, x, packed) tells whether it is for other tensors as well, of which x has the
// same sizes and dtype: the same weights' format, threads and device.
template <class Plan>
struct Prepared {
    std::string text;
    Integers sizes;  // x's
    int32_t dtype;
    ScalarType type;  // of x's numbers, or of those that its bytes stand for: the result's
    bool is_bytes;
    Plan plan;
};

template <class Plan>
Prepared<Plan> prepare(const char* op, const std::string& text, const Tensor& x, const Tensor& packed)
{
    Layers layers = read_float_chain(op, text);
    const InputView view = check_x({op, "x"}, layers, x);
    complete_by({op, "x"}, x, layers);
    const auto sizes = x.sizes();
    return {text,          Integers(sizes.begin(), sizes.end()),   dtype_of(x), view.dtype,
            view.is_bytes, Plan(op, layers, view.dtype, x, packed)};
}

// Layers come as a string because torch takes half a microsecond to pass on each of many integers. Errors are the same whether
// anything is found: what is not found is checked from the start.
template <class Plan>
std::shared_ptr<const Prepared<Plan>> find_prepared(const char* op, const std::string& text, const Tensor& x,
                                                    const Tensor& packed)
{
    constexpr size_t most_kept = 64;  // a network takes some 20 KB; one that calls its blocks one by one needs 17
    static Recent<Prepared<Plan>> recent(most_kept);
    const auto sizes = x.sizes();
    const int32_t dtype = dtype_of(x);
    const auto serves = [&](const Prepared<Plan>& kept) {
        return kept.dtype == dtype && std::equal(sizes.begin(), sizes.end(), kept.sizes.begin(), kept.sizes.end()) &&
               kept.text == text && kept.plan.serves(op, x, packed);
    };
    return recent.find(serves, [&] { return prepare<Plan>(op, text, x, packed); });
}

}  // namespace mnv2::ops
