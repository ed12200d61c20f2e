#include <algorithm>
#include <cstddef>
#include <limits>

#include "cuda/common/forms.cuh"
#include "cuda/gated_block/kernel.cuh"
#include "cuda/gated_block/pack.cuh"
#include "cuda/gated_block/plan.h"
#include "cuda/general_block/cut.h"

namespace mnv2::cuda {
namespace {

// A launch's memory: what the passes read and write.
struct GatedTensors {
    const void* x;
    const float* packed;
    void* y;
    char* scratch;
};

template <class T>
T* scratch_at(const GatedTensors& tensors, int64_t bytes)
{
    return reinterpret_cast<T*>(tensors.scratch + bytes);
}

void launch_depthwise(const GatedPlan& plan, ScalarType type, const GatedTensors& tensors, const Gpu& gpu, Stream stream)
{
    InvertedResidualParams params = depthwise_pass(plan.params);
    GatedDepthwiseArguments arguments{};
    GeneralBlockArguments& block = arguments.block;
    params.out_channels = params.expanded_channels;  // of what it stores
    Cut cut = plan.cut;
    cut.slice_channels = plan.chunks_per_block * chunk_channels;
    block = general_arguments(params, cut, plan.layout, type);
    block.chunks_at = 0;
    block.chunk_floats = chunk_floats(depthwise_pass(params));
    set_tensors(tensors.x, tensors.packed + gated_offsets(plan.params).depthwise, tensors.scratch, block);
    arguments.sums = scratch_at<float>(tensors, plan.scratch(type).sums);
    const dim3 grid(static_cast<unsigned>(resident_blocks(gpu, plan.shape.blocks_per_sm, block.blocks)));
    const size_t shared_bytes = static_cast<size_t>(block.layout.floats) * sizeof(float);
    visit_form<gated_shapes>(plan.shape, [&]<GeneralShape shape>() {
        launch_kernel(gated_depthwise_kernel<GeneralBlock<shape>>, grid, dim3(shape.threads()), shared_bytes, stream,
                      arguments);
    });
}

GateArguments gate_arguments(const GatedPlan& plan, ScalarType type, const GatedTensors& tensors)
{
    const InvertedResidualParams& params = plan.params;
    const GatedOffsets offsets = gated_offsets(params);
    const GatedScratch scratch = plan.scratch(type);
    GateArguments arguments{};
    arguments.sums = scratch_at<float>(tensors, scratch.sums);
    arguments.squeezed = scratch_at<float>(tensors, scratch.squeezed);
    arguments.factors = scratch_at<float>(tensors, scratch.factors);
    arguments.squeeze_weights = tensors.packed + offsets.squeeze;
    arguments.squeeze_bias = tensors.packed + offsets.squeeze_bias;
    arguments.excite_weights = tensors.packed + offsets.excite;
    arguments.excite_bias = tensors.packed + offsets.excite_bias;
    arguments.batch = params.batch;
    arguments.tiles = plan.tiles();
    arguments.expanded_channels = static_cast<int>(params.expanded_channels);
    arguments.squeezed_channels = static_cast<int>(params.squeezed_channels);
    arguments.pixels = static_cast<float>(params.out_height() * params.out_width());
    arguments.squeeze = epilogue_of(params.squeeze_activation);
    arguments.excite = params.excite_activation;
    return arguments;
}

// tasks: what thread blocks take one after another.
template <auto kernel>
void launch_gate(const GateArguments& arguments, int64_t tasks, size_t shared_bytes, const Gpu& gpu, Stream stream)
{
    const dim3 grid(static_cast<unsigned>(resident_blocks(gpu, gate_blocks_per_sm, tasks)));
    launch_kernel(kernel, grid, dim3(gate_threads), shared_bytes, stream, arguments);
}

}  // namespace

void launch_plan(const GatedPlan& plan, ScalarType type, const void* x, const void* packed, void* y, void* scratch,
                 const Gpu& gpu, Stream stream)
{
    const GatedTensors tensors{x, static_cast<const float*>(packed), y, static_cast<char*>(scratch)};
    launch_depthwise(plan, type, tensors, gpu, stream);
    const GateArguments gate = gate_arguments(plan, type, tensors);
    launch_gate<gate_squeeze_kernel>(gate, gate.batch * divide_up(gate.squeezed_channels, gate_warps),
                                     gate_means * sizeof(float), gpu, stream);
    launch_gate<gate_excite_kernel>(gate, gate.batch * divide_up(gate.expanded_channels, gate_threads), 0, gpu, stream);
    launch_gated_projection(plan.project, type, {scratch, x, gate.factors}, tensors.packed + gated_offsets(plan.params).project,
                            y, gpu, stream);
}

void pack_gated_block(const InvertedResidualParams& params, const BlockConvolutions& weights, void* packed, Stream stream)
{
    const GatedOffsets offsets = gated_offsets(params);
    auto* const floats = static_cast<float*>(packed);
    pack_general_block(depthwise_pass(params), ScalarType::float32, weights.expand, weights.depthwise, weights.project,
                       floats + offsets.depthwise, stream);
    pack_general_block(project_pass(params), ScalarType::float32, weights.expand, weights.depthwise, weights.project,
                       floats + offsets.project, stream);
    const GateWords gate{{weights.squeeze, params.squeezed_channels, params.expanded_channels},
                         {weights.excite, params.expanded_channels, params.squeezed_channels},
                         offsets};
    pack_words(gate, (offsets.end - offsets.squeeze) * static_cast<int64_t>(sizeof(float)), floats + offsets.squeeze, stream);
}

}  // namespace mnv2::cuda
