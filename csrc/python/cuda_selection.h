// Which CUDA kernel serves a block, for Python; needs neither a GPU nor CUDA.
#pragma once

#include <pybind11/pybind11.h>

void bind_cuda_selection(pybind11::module_& module);
