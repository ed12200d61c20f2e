// A block's shape and options from Python's arguments, and a plan for Python.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/block.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"

using PaddingSides = std::array<int32_t, 4>;  // top, left, bottom, right

// ValueError that names the argument.
void require_at_least(int64_t least, const char* name, int64_t value);

// Channels only. ValueError names a bad argument.
mnv2::InvertedResidualParams block_channels(int64_t in_channels, int64_t expanded_channels, int64_t out_channels, bool expand);

// All of it, with an output of at least a pixel. ValueError names a bad argument.
mnv2::InvertedResidualParams block_params(int64_t batch, int64_t height, int64_t width, int64_t in_channels,
                                          int64_t expanded_channels, int64_t out_channels, int32_t stride,
                                          const PaddingSides& padding, const std::string& activation,
                                          const std::string& project_activation, bool residual, bool expand);

pybind11::dict describe_block_plan(const mnv2::cpu::BlockPlan& plan, const mnv2::cpu::Kernels& kernels);
