// From what a plan and a tensor's type say to the kernel that was compiled for it.
#pragma once

#include <cstddef>
#include <iterator>

#include "core/block.h"
#include "cuda/common/ptx.cuh"

namespace mnv2::cuda {

// Calls visit<shape>() with the one of `shapes` that equals the argument as its template parameter.
template <const auto& shapes, size_t i = 0, class Shape, class Visit>
void visit_form(const Shape& shape, const Visit& visit)
{
    if constexpr (i < std::size(shapes)) {
        if (shape == shapes[i]) return visit.template operator()<shapes[i]>();
        visit_form<shapes, i + 1>(shape, visit);
    }
}

// Calls visit<T>() for one of the two types of 16 bits.
template <class Visit>
void visit_half(ScalarType type, const Visit& visit)
{
    if (type == ScalarType::float16)
        visit.template operator()<__half>();
    else
        visit.template operator()<__nv_bfloat16>();
}

// The same for every type.
template <class Visit>
void visit_type(ScalarType type, const Visit& visit)
{
    if (type == ScalarType::float32)
        visit.template operator()<float>();
    else
        visit_half(type, visit);
}

}  // namespace mnv2::cuda
