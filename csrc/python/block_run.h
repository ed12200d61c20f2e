// One block on buffers of its own, for measurements.
#pragma once

#include <pybind11/pybind11.h>

void bind_block_run(pybind11::module_& module);
