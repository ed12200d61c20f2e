# cmake -DNM=... -DOBJECTS=... -P: the object of an instruction set defines its table and nothing else that a linker sees.
# A weak symbol, such as an inline function of std::, may be the copy that the linker keeps for the whole program, and a
# static initialiser runs before dispatch has looked at the processor; either is an illegal instruction on older machines.

set(checked 0)
foreach(object IN LISTS OBJECTS)
    if(NOT object MATCHES "/isa_([a-z0-9_]+)\\.cpp\\.o$")
        continue()
    endif()
    set(isa "${CMAKE_MATCH_1}")
    math(EXPR checked "${checked} + 1")
    execute_process(COMMAND "${NM}" "${object}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    if(NOT symbols MATCHES "[DR] [A-Za-z0-9_]*${isa}_kernels")
        message(SEND_ERROR "${object}: expected a constant ${isa}_kernels")
    endif()
    string(REGEX MATCHALL "[^\n]* ([TBWVuC] |t _GLOBAL__)[^\n]*" unexpected "${symbols}")
    if(unexpected)
        string(REPLACE ";" "\n" unexpected "${unexpected}")
        message(SEND_ERROR "${object}: expected no global function, weak symbol or static initialiser, got\n${unexpected}")
    endif()
endforeach()
if(checked LESS 1)
    message(FATAL_ERROR "no isa_*.cpp.o among OBJECTS")
endif()
