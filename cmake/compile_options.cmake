# Flags of every target, and the rule that gives one source an instruction set.

add_library(mnv2_compile_options INTERFACE)
# No -ffast-math: NaN and the order of additions are promised. errno of sqrt and friends is read by nobody.
target_compile_options(mnv2_compile_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-fno-math-errno>)

if(MNV2_SANITIZE)
    target_compile_options(
        mnv2_compile_options
        INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${MNV2_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
    target_link_options(mnv2_compile_options INTERFACE "-fsanitize=${MNV2_SANITIZE}")
endif()

# The kernels' AddressSanitizer checks are calls: written out at each access, AVX-512's take GCC four times as long.
set(mnv2_quick_checks "")
if(MNV2_SANITIZE MATCHES "address" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(mnv2_quick_checks --param=asan-instrumentation-with-call-threshold=0)
endif()

# Sanitizers find nothing in code that this machine cannot run, but take minutes to compile it.
set(mnv2_cpu_flags "")
if(MNV2_SANITIZE AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    file(READ /proc/cpuinfo cpuinfo)
    string(REGEX MATCH "\nflags[^\n]*" mnv2_cpu_flags "${cpuinfo}")
endif()

# Compiles a source with these flags.
function(mnv2_set_kernel_options source)
    set(flags ${ARGN} ${mnv2_quick_checks})
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # GCC 12 objects to the undefined operands of its own AVX-512 intrinsics and to accumulators that only deep layers use.
        list(APPEND flags -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
    set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "${flags}")
endfunction()

# Compiles one source with one instruction set's flags: a flag for the whole library would let the compiler use it in code
# that runs before dispatch has looked at the processor.
function(mnv2_add_kernels isa source)
    if(mnv2_cpu_flags AND NOT isa STREQUAL "scalar" AND NOT mnv2_cpu_flags MATCHES " ${isa}")
        message(STATUS "Skipping ${isa}, which this processor does not have")
        return()
    endif()
    mnv2_set_kernel_options("${source}" ${ARGN})
    target_sources(mnv2_core PRIVATE "${source}")
    set(mnv2_kernel_isas ${mnv2_kernel_isas} ${isa} PARENT_SCOPE)
endfunction()

# The same for an instruction set that computes with floats. A macro: it changes its caller's list.
macro(mnv2_add_isa isa source)
    mnv2_add_kernels(${isa} ${source} ${ARGN})
    if("${isa}" IN_LIST mnv2_kernel_isas)
        list(APPEND mnv2_isas ${isa})
    endif()
endmacro()
