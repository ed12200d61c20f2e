// Whether modules and their tensors still are what a packed copy was made of. CPython's API only, no torch.
#pragma once

#include <pybind11/pybind11.h>

void bind_snapshot(pybind11::module_& module);
