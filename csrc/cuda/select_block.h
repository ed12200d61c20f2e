// Which kernel serves a block, in which packed format, by which plan, and why. Host code: it needs neither a GPU nor CUDA.
#pragma once

#include <cstdint>
#include <span>
#include <variant>

#include "core/block.h"
#include "cuda/cluster_block/plan.h"
#include "cuda/gated_block/plan.h"
#include "cuda/general_block/plan.h"
#include "cuda/gpu.h"
#include "cuda/register_block/plan.h"
#include "cuda/tile_block/plan.h"

namespace mnv2::cuda {

enum class BlockKernel : int32_t { register_block, tile_block, cluster_block, gated_block, general_block };

const char* block_kernel_name(BlockKernel kernel);

struct BlockReason {
    BlockKernel kernel;
    const char* text;
};

// Every reason for which select_block chooses a kernel; docs/gpu.md lists them.
std::span<const BlockReason> block_reasons();

// What packed weights look like; cluster_block reads tile_block's.
enum class Format : int32_t { general_block, register_block, tile_block, gated_block };

// A block's packed weights. They depend on the layer and their type alone, so that images of every size share them.
struct BlockFormat {
    Format format;
    int64_t packed_bytes;
    const char* reason;
};

BlockFormat select_format(const InvertedResidualParams& params, ScalarType packed_type);

// The launch for images of one size. Where several kernels read the format, the GPU and the number of images decide.
struct BlockChoice {
    BlockFormat format;
    BlockKernel kernel;
    const char* reason;
    std::variant<std::monostate, RegisterPlan, TilePlan, ClusterPlan, GatedPlan, GeneralPlan>
        plan;  // monostate: there is no output
};

// Throws std::runtime_error where the GPU has too little shared memory.
BlockChoice select_block(const InvertedResidualParams& params, ScalarType packed_type, const Gpu& gpu);

}  // namespace mnv2::cuda
