# cmake -DVALGRIND=... -DPROGRAM=... -P: a forward pass executes no more instructions than recorded. The count is the same on
# every machine, which a time is not.
#
# 1.67 instructions a multiply-add are the floor of the AVX2 tile: of 6 pixels x 2 vectors, a depth takes 12 multiply-adds, 6
# broadcasts and 2 loads; 300.8 M multiply-accumulates are 37.6 M vectors. What is beside that are the depthwise convolutions,
# the ends of the tiles and the last channels.

set(recorded 80223101)  # GCC 12.2, -O3
set(slack_percent 3)

set(ENV{MNV2_FORCE_ISA} avx2)
execute_process(
    COMMAND "${VALGRIND}" --tool=callgrind --callgrind-out-file=/dev/null "--toggle-collect=mnv2::cpu::network*" "${PROGRAM}"
    OUTPUT_VARIABLE output
    ERROR_VARIABLE report
    COMMAND_ERROR_IS_FATAL ANY)
if(NOT output MATCHES "^avx2 ")
    message(FATAL_ERROR "expected a pass by avx2, got: ${output}")
endif()
if(NOT report MATCHES "Collected : ([0-9]+)")
    message(FATAL_ERROR "no count in callgrind's report:\n${report}")
endif()
set(counted "${CMAKE_MATCH_1}")
math(EXPR allowed "${recorded} * (100 + ${slack_percent}) / 100")
message(STATUS "${counted} instructions, at most ${allowed} allowed")
if(counted LESS 1 OR counted GREATER allowed)
    message(FATAL_ERROR "expected about ${recorded} instructions, got ${counted}")
endif()
