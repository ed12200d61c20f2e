# pybind11_add_module, from the interpreter's own pybind11.
include(cmake/python.cmake)
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
mnv2_ask_python(
    pybind11_cmake "import pybind11; print(pybind11.get_cmake_dir())"
    "pybind11 is missing from ${Python_EXECUTABLE}: pip install pybind11, or -DMNV2_BUILD_NATIVE=OFF")
set(pybind11_DIR "${pybind11_cmake}" CACHE PATH "pybind11's CMake package" FORCE)
set(PYBIND11_FINDPYTHON ON)
find_package(pybind11 2.13 CONFIG REQUIRED)
