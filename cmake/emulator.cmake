# CUDA sources compiled as C++ and run on the host. They need CUDA's headers, but neither nvcc nor a GPU.
find_path(mnv2_cuda_headers cuda_fp16.h HINTS "$ENV{CUDA_HOME}/include" /usr/local/cuda/include)
if(NOT mnv2_cuda_headers)
    message(STATUS "Skipping the emulator: no cuda_fp16.h in CUDA_HOME or /usr/local/cuda")
endif()

add_library(mnv2_emulator INTERFACE)
target_include_directories(mnv2_emulator INTERFACE csrc tests tests/cpp)
target_include_directories(mnv2_emulator SYSTEM INTERFACE "${mnv2_cuda_headers}")
target_compile_options(mnv2_emulator INTERFACE -Wno-unknown-pragmas)  # nvcc's unroll

# add_mnv2_emulated_kernels(name sources...): a library of them, to link tests to.
function(add_mnv2_emulated_kernels name)
    set(as_cpp "")
    foreach(source IN LISTS ARGN)
        # By inclusion, as one source has one language in all targets.
        cmake_path(GET source STEM stem)
        set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/generated/emulated/${stem}.cpp")
        file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/${source}\"\n")
        list(APPEND as_cpp "${wrapper}")
    endforeach()
    add_library(${name} STATIC ${as_cpp})
    target_link_libraries(${name} PUBLIC mnv2_emulator PRIVATE mnv2_compile_options)
endfunction()

function(add_mnv2_emulator_test name)
    add_mnv2_test(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE mnv2_emulated_kernels)
endfunction()

# A program with kernels of its own, in which a fault is planted.
function(add_mnv2_planted_fault name fault)
    if(NOT MNV2_SANITIZE)
        add_mnv2_test(${name} ${ARGN})
        target_compile_definitions(${name} PRIVATE MNV2_PLANTED_FAULT=${fault})
        target_compile_options(${name} PRIVATE -O1)
        target_link_libraries(${name} PRIVATE mnv2_emulator)
    endif()
endfunction()
