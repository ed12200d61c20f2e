// The entry point of int8 on a CPU: a chain of layers on a batch of images.
#pragma once

#include <vector>

#include "core/layer_chain.h"
#include "core/parallel.h"
#include "cpu/int8/block.h"
#include "cpu/int8/kernels.h"

namespace mnv2::cpu::int8 {

// layers: a chain with its images' sizes (set_image). packed: at each layer's packed_at what pack_block and the others wrote
// for these kernels. y: bytes (N, H, W, C) or (N, C), contiguous; behind a linear layer float32 (N, C). Threads take
// images whole, as far as they divide them; all share each of the others. The bits depend on neither batch nor threads. Throws
// std::bad_alloc where there is no scratch memory. layer_seconds: null, or a number for each layer, to which the first image's
// time is added; a stem's goes to the block that it runs in, and of a linear layer each image has an equal share.
void run_chain(const Kernels& kernels, const std::vector<NetworkLayer>& layers, const ImageView& x, const void* packed, void* y,
               const Parallel& parallel, double* layer_seconds = nullptr);

}  // namespace mnv2::cpu::int8
