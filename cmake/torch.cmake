# mnv2_torch_stable: headers and library of torch's stable ABI, without find_package(Torch), which would want CUDA wherever
# torch was built with it.
include(cmake/python.cmake)
mnv2_ask_python(
    torch_dir "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    "torch is missing from ${Python_EXECUTABLE}: pip install 'torch>=${mnv2_torch_target}', or -DMNV2_BUILD_OPS=OFF")

file(STRINGS "${torch_dir}/include/torch/headeronly/version.h" version_lines REGEX "define TORCH_VERSION_(MAJOR|MINOR) ")
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*" "\\1.\\2" mnv2_torch_version "${version_lines}")
if(mnv2_torch_version VERSION_LESS mnv2_torch_target)
    message(FATAL_ERROR "torch ${mnv2_torch_version} is too old: pip install 'torch>=${mnv2_torch_target}'")
endif()

# TORCH_TARGET_VERSION is one byte each of major and minor, then six zero bytes (torch/csrc/stable/version.h).
string(REPLACE "." ";" target_parts "${mnv2_torch_target}")
list(GET target_parts 0 major)
list(GET target_parts 1 minor)
math(EXPR target_number "(${major} << 56) | (${minor} << 48)" OUTPUT_FORMAT HEXADECIMAL)

add_library(mnv2_torch_stable INTERFACE)
target_include_directories(mnv2_torch_stable SYSTEM INTERFACE "${torch_dir}/include")
target_compile_definitions(mnv2_torch_stable INTERFACE TORCH_TARGET_VERSION=${target_number})
# libtorch_cpu has the stable functions in every torch, with and without CUDA. No rpath: whoever loads the operators has
# loaded torch. -z defs: a missing function fails here, not at import.
target_link_libraries(mnv2_torch_stable INTERFACE "${torch_dir}/lib/libtorch_cpu.so")
target_link_options(mnv2_torch_stable INTERFACE "LINKER:--as-needed" "LINKER:-z,defs")
