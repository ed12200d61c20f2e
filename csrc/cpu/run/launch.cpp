#include "cpu/run/launch.h"

#include "core/packing.h"
#include "cpu/isa/dispatch.h"
#include "cpu/run/schedule.h"

namespace mnv2::cpu {

void inverted_residual(const InvertedResidualParams& params, const InputView& x, const void* packed, void* y,
                       const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    const int64_t pixels = params.out_height() * params.out_width();
    run_block(kernels, params, view_of(x, kernels), packed, nhwc_result(y, x.dtype, pixels, params.out_channels, kernels),
              parallel);
}

void stem(const StemParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    const int64_t pixels = params.out_height() * params.out_width();
    run_stem(kernels, params, view_of(x, kernels), packed, nhwc_result(y, x.dtype, pixels, params.out_channels, kernels),
             parallel);
}

void head_pool(const HeadPoolParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    run_head_pool(kernels, params, view_of(x, kernels), packed, nhwc_result(y, x.dtype, 1, params.out_channels, kernels),
                  parallel);
}

void linear(const LinearParams& params, const InputView& x, const void* packed, void* y, const Parallel& parallel)
{
    const Kernels& kernels = kernels_for(packed_isa(packed));
    // A batch's vectors are the rows of one image.
    InputView rows = x;
    rows.stride_h = x.stride_n;
    run_linear(kernels, params, view_of(rows, kernels), packed, nhwc_result(y, x.dtype, 1, params.out_features, kernels),
               parallel);
}

}  // namespace mnv2::cpu
