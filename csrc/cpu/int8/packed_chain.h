// A chain of int8 layers in one packed buffer: a header, the layers' text, then their weights, each on a cache line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/layer_chain.h"
#include "cpu/int8/format.h"

namespace mnv2::cpu::int8 {

// Sets each layer's packed_at; returns the bytes of all of them.
int64_t place_layers(std::vector<NetworkLayer>& layers, const Format& format);

// Writes what stands in front of the weights of placed layers.
void write_chain_header(const std::vector<NetworkLayer>& layers, const Format& format, void* packed);

// Why these bytes are no weights of the layers, in the form "expected ..., got ..."; empty if they are, in which case isa is
// whose they are.
std::string chain_mismatch(const std::vector<NetworkLayer>& layers, const void* packed, int64_t bytes, Isa& isa);

}  // namespace mnv2::cpu::int8
