# add_mnv2_test(name sources...): one ctest of one program.
find_package(Threads REQUIRED)

set(mnv2_test_timeout_s 600)  # sanitizers slow a test by an order of magnitude

function(add_mnv2_test name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE mnv2_core mnv2_compile_options Threads::Threads)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${mnv2_test_timeout_s})
endfunction()

# CUDA sources compiled as C++ and run on the host. They need CUDA's headers, but neither nvcc nor a GPU.
find_path(mnv2_cuda_headers cuda_fp16.h HINTS "$ENV{CUDA_HOME}/include" /usr/local/cuda/include)
if(NOT mnv2_cuda_headers)
    message(STATUS "Skipping the emulator tests: no cuda_fp16.h in CUDA_HOME or /usr/local/cuda")
endif()

function(mnv2_use_emulator name)
    target_include_directories(${name} PRIVATE csrc tests tests/cpp)
    target_include_directories(${name} SYSTEM PRIVATE "${mnv2_cuda_headers}")
    target_compile_options(${name} PRIVATE -Wno-unknown-pragmas)  # nvcc's unroll
endfunction()

function(add_mnv2_emulator_test name)
    if(mnv2_cuda_headers)
        add_mnv2_test(${name} ${ARGN})
        mnv2_use_emulator(${name})
    endif()
endfunction()

# One that is run by hand.
function(add_mnv2_emulator_program name)
    if(mnv2_cuda_headers)
        add_executable(${name} ${ARGN})
        target_link_libraries(${name} PRIVATE mnv2_core mnv2_compile_options)
        mnv2_use_emulator(${name})
    endif()
endfunction()

# One kernel, built for a single small case.
function(add_mnv2_planted_fault name fault)
    if(mnv2_cuda_headers)
        target_compile_definitions(${name} PRIVATE MNV2_PLANTED_FAULT=${fault})
        target_compile_options(${name} PRIVATE -O1)
    endif()
endfunction()

# Sanitizers add symbols of their own to every object.
if(NOT MNV2_SANITIZE)
    add_test(
        NAME isa_symbols COMMAND "${CMAKE_COMMAND}" -DNM=${CMAKE_NM} "-DOBJECTS=$<TARGET_OBJECTS:mnv2_core>" -P
                                 "${CMAKE_CURRENT_LIST_DIR}/check_isa_symbols.cmake")
endif()

# add_mnv2_instruction_count(name source): what a program executes of mnv2::cpu::network, against the recorded number.
find_program(mnv2_valgrind valgrind)
if(NOT mnv2_valgrind)
    message(STATUS "Skipping the count of instructions: no valgrind")
endif()

function(add_mnv2_instruction_count name source)
    # A sanitizer's own instructions would count.
    if(mnv2_valgrind AND NOT MNV2_SANITIZE AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE mnv2_core mnv2_compile_options)
        add_test(NAME ${name} COMMAND "${CMAKE_COMMAND}" -DVALGRIND=${mnv2_valgrind} -DPROGRAM=$<TARGET_FILE:${name}> -P
                                      "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/check_instructions.cmake")
    endif()
endfunction()
