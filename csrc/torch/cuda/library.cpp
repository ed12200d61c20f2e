#include "torch/cuda/ops.h"
#include "torch/schemas.h"

STABLE_TORCH_LIBRARY_FRAGMENT(mnv2, m)
{
    mnv2::ops::define_lengths(m);
}

STABLE_TORCH_LIBRARY_IMPL(mnv2, CompositeExplicitAutograd, m)
{
    mnv2::ops::implement_lengths(m);
}

STABLE_TORCH_LIBRARY_IMPL(mnv2, CUDA, m)
{
    mnv2::ops::implement_cuda_operators(m);
}
