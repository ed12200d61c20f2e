# TORCH_CUDA_ARCH_LIST in CMake's terms.

set(mnv2_default_cuda_archs "8.0;9.0+PTX")

# "8.0 9.0a+PTX" (separated by blanks, commas or semicolons) gives cmake_archs "80-real;90a" and names "8.0;9.0a+PTX". An
# empty list is the default: everything from Ampere on, newer GPUs by way of PTX.
function(mnv2_cuda_architectures list cmake_archs names)
    string(REGEX REPLACE "[ ,;]+" ";" requested "${list}")
    if(requested STREQUAL "")
        set(requested "${mnv2_default_cuda_archs}")
    endif()
    set(archs "")
    foreach(arch IN LISTS requested)
        if(NOT arch MATCHES "^([0-9]+)\\.([0-9][a-z]?)(\\+PTX)?$")
            message(FATAL_ERROR "TORCH_CUDA_ARCH_LIST: expected entries like 8.0 or 9.0+PTX, got '${arch}'")
        endif()
        if(CMAKE_MATCH_1 LESS 8)  # no cp.async, no bfloat16
            message(FATAL_ERROR "TORCH_CUDA_ARCH_LIST: expected 8.0 or newer, got '${arch}'")
        endif()
        set(kind "-real")
        if(CMAKE_MATCH_3)
            set(kind "")  # CMake's word for machine code and PTX
        endif()
        list(APPEND archs "${CMAKE_MATCH_1}${CMAKE_MATCH_2}${kind}")
    endforeach()
    set(${cmake_archs} "${archs}" PARENT_SCOPE)
    set(${names} "${requested}" PARENT_SCOPE)
endfunction()
