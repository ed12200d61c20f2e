// A block of bytes on buffers of its own: to count its traffic under valgrind.
#pragma once

#include <cstdint>

#include "core/block.h"
#include "cpu/int8/kernels.h"
#include "cpu/measure/block_run.h"

namespace mnv2::cpu {

// One image, blocked in and out as inside a network, one thread. Two copies of everything that a block has to read or write,
// input, packed weights and result; one scratch for both.
class Int8BlockRun {
public:
    Int8BlockRun(const InvertedResidualParams& params, const int8::Kernels& kernels);

    void run(int copy = 0) const;

    const int8::Kernels& kernels() const { return kernels_; }
    int64_t packed_bytes() const;
    int64_t activation_bytes() const { return input_bytes() + result_bytes(); }
    int64_t scratch_bytes() const;

private:
    struct Copy {
        LineBuffer x, packed, y;
    };

    Copy make_copy() const;
    int64_t input_bytes() const;
    int64_t result_bytes() const;

    InvertedResidualParams params_;
    const int8::Kernels& kernels_;
    Copy copies_[2];
    LineBuffer task_scratch_, depthwise_out_;
};

}  // namespace mnv2::cpu
