// What launches tell kernels of an activation.
#pragma once

#include "core/block.h"

namespace mnv2::cuda {

// The clamp comes first. Which curve follows decides a branch that all threads take alike: with it as a template parameter
// kernels would be compiled three times for a few instructions behind a sum.
struct Epilogue {
    Clamp clamp;
    Curve curve;
};

constexpr Epilogue epilogue_of(Activation activation) { return {clamp_of(activation), curve_of(activation)}; }

}  // namespace mnv2::cuda
