// A block without fusing: its convolutions one after another over a whole image, with the fused block's bits. What fusing saves
// is measured against this.
#pragma once

#include <cstdint>

#include "cpu/generic/gate-inl.h"
#include "cpu/generic/inverted_residual-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

template <class Function>
void for_each_strip(const Range& rows, int64_t strip_rows, const Function& function)
{
    for (int64_t row = rows.begin; row < rows.end; row += strip_rows) function(Range{row, smaller(row + strip_rows, rows.end)});
}

void multiply_with_gate(const BlockTask& task, const Block& block)
{
    take_means(task, DepthwiseOut(task), block.all_vectors());
    const Gate gate(task);
    block.multiply_depthwise_out(block.all_rows(), gate.factors());
}

// The scratch holds the whole expanded tensor and all depthwise results. Expand and project take strip_rows rows at a time, as
// otherwise each would read its input once a panel.
void unfused_inverted_residual(const BlockTask& task, int64_t strip_rows)
{
    Block block(task);
    const Range image = block.all_rows();
    for_each_strip(block.input_rows(image), strip_rows, [&](const Range& rows) {
        block.take_input(rows, rows.begin);
        block.expand(block.all_vectors(), rows);
    });
    block.depthwise(block.all_vectors(), image);
    if (task.params->has_gate()) multiply_with_gate(task, block);
    for_each_strip(image, strip_rows, [&](const Range& strip) {
        block.take_shortcut(strip);
        block.project(strip, block.all_channels());
    });
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
