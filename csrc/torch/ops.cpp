#include <torch/csrc/stable/library.h>

#include "torch/schemas.h"

STABLE_TORCH_LIBRARY(mnv2, m)
{
    mnv2::ops::define_operators(m);
}
