# CUDA sources compiled as C++ and run on the host. They need CUDA's headers, but neither nvcc nor a GPU.
set(Python_FIND_VIRTUALENV FIRST)
find_package(Python 3.10 QUIET COMPONENTS Interpreter)
if(Python_Interpreter_FOUND)
    execute_process(
        COMMAND "${Python_EXECUTABLE}" -c
                "import glob, sysconfig; print(';'.join(glob.glob(sysconfig.get_path('purelib') + '/nvidia/cu*/include')))"
        OUTPUT_VARIABLE pip_cuda_headers OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
# torch brings some of the headers, but not the compiler's.
find_path(mnv2_cuda_headers crt/host_defines.h HINTS "$ENV{CUDA_HOME}/include" /usr/local/cuda/include ${pip_cuda_headers})
if(NOT mnv2_cuda_headers)
    message(
        WARNING "The tests of the CUDA kernels are left out: CUDA's headers are neither in CUDA_HOME nor in /usr/local/cuda "
                "(pip install nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl)")
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
        cmake_path(REMOVE_EXTENSION source OUTPUT_VARIABLE name_of_source)
        set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/generated/emulated/${name_of_source}.cpp")
        file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/${source}\"\n")
        list(APPEND as_cpp "${wrapper}")
    endforeach()
    add_library(${name} STATIC ${as_cpp})
    target_link_libraries(${name} PUBLIC mnv2_emulator PRIVATE mnv2_compile_options)
endfunction()

add_custom_target(emulator_programs)

function(add_mnv2_emulator_program name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE mnv2_emulated_kernels mnv2_core mnv2_compile_options Threads::Threads)
    add_dependencies(emulator_programs ${name})
endfunction()

# ThreadSanitizer reports races between CUDA threads whatever the schedule, so a few small cases of each kernel are enough:
# every program has tests with "schedule" in their names that run these.
set(emulator_filter "")
if(MNV2_SANITIZE STREQUAL "thread")
    set(emulator_filter schedule)
endif()

function(add_mnv2_emulator_test name)
    add_mnv2_emulator_program(${name} ${ARGN})
    add_test(NAME ${name} COMMAND ${name} ${emulator_filter})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${mnv2_test_timeout_s})
endfunction()

# add_mnv2_planted_races(name source faults...): a program free of races, in which ThreadSanitizer finds one if named a fault.
function(add_mnv2_planted_races name source)
    if(MNV2_SANITIZE STREQUAL "thread")
        add_mnv2_emulator_program(${name} ${source})
        add_test(NAME ${name} COMMAND ${name})
        foreach(fault IN LISTS ARGN)
            add_test(NAME ${name}_${fault} COMMAND ${name} ${fault})
            set_tests_properties(${name}_${fault} PROPERTIES PASS_REGULAR_EXPRESSION "ThreadSanitizer: data race")
        endforeach()
    endif()
endfunction()

# A program with kernels of its own, in which faults are planted. Planted races are another program's.
function(add_mnv2_planted_faults name source)
    if(NOT MNV2_SANITIZE)
        add_mnv2_test(${name} ${source})
        target_compile_options(${name} PRIVATE -O1)
        target_link_libraries(${name} PRIVATE mnv2_cuda_plans mnv2_emulator)
    endif()
endfunction()
