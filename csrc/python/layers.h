// Layers from the text that Python gives, and a plan for Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/layer_chain.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"

// All throw ValueError that names what is wrong.
void require_at_least(int64_t least, const char* name, int64_t value);
std::vector<mnv2::Layer> read_layers(const std::string& text);

// Exactly one layer, without an image and with one that fills its window.
mnv2::NetworkLayer one_layer(const std::string& text);
mnv2::NetworkLayer one_layer(const std::string& text, int64_t batch, int64_t height, int64_t width);

// Completes layers by an image that fills them all.
void complete_by_image(std::vector<mnv2::NetworkLayer>& layers, int64_t batch, int64_t height, int64_t width);

pybind11::dict describe_block_plan(const mnv2::cpu::BlockPlan& plan, const mnv2::cpu::Kernels& kernels);
