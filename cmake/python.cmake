# The interpreter whose torch and pybind11 are built against: the one that setup.py names, else the first on PATH.
set(Python_FIND_VIRTUALENV FIRST)
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)

# Sets out to what the interpreter prints for a line of code, or stops with message. Asked anew by every configuration, so
# that a build directory never keeps paths of an environment that is gone.
function(mnv2_ask_python out code message)
    execute_process(
        COMMAND "${Python_EXECUTABLE}" -c "${code}" OUTPUT_VARIABLE answer OUTPUT_STRIP_TRAILING_WHITESPACE
        RESULT_VARIABLE failed ERROR_QUIET)
    if(failed)
        message(FATAL_ERROR "${message}")
    endif()
    set(${out} "${answer}" PARENT_SCOPE)
endfunction()
