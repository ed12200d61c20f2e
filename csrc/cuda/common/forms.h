// From a form that a plan holds to the kernel that was compiled for it.
#pragma once

#include <cstddef>
#include <iterator>
#include <utility>

namespace mnv2::cuda {

// Calls visit<shape>() with the one of `shapes` that equals the argument as its template parameter.
template <const auto& shapes, class Shape, class Visit>
void visit_form(const Shape& shape, const Visit& visit)
{
    [&]<size_t... i>(std::index_sequence<i...>) {
        ((shape == shapes[i] && (visit.template operator()<shapes[i]>(), true)) || ...);
    }(std::make_index_sequence<std::size(shapes)>{});
}

}  // namespace mnv2::cuda
