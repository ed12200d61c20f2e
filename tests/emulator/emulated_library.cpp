// The operators of libmnv2_cuda for tensors on the CPU, their kernels in the emulator: torch.ops.mnv2_emulated.
#include "torch/cuda/device.h"
#include "torch/cuda/ops.h"
#include "torch/schemas.h"

namespace mnv2::ops {

struct CurrentDevice::Guard {};

// Few multiprocessors, so that thread blocks take more than one tile; shared memory as an A100 has it.
CurrentDevice::CurrentDevice(const char*, const torch::stable::Tensor&) : gpu_{2, 80, 163 << 10}, stream_(nullptr) {}

CurrentDevice::~CurrentDevice() = default;

}  // namespace mnv2::ops

STABLE_TORCH_LIBRARY(mnv2_emulated, m)
{
    mnv2::ops::define_operators(m);
    mnv2::ops::define_lengths(m);
}

STABLE_TORCH_LIBRARY_IMPL(mnv2_emulated, CompositeExplicitAutograd, m)
{
    mnv2::ops::implement_lengths(m);
}

STABLE_TORCH_LIBRARY_IMPL(mnv2_emulated, CPU, m)
{
    mnv2::ops::implement_cuda_operators(m);
}
