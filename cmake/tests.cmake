# add_mnv2_test(name sources...): one ctest of one program.
find_package(Threads REQUIRED)

set(mnv2_test_timeout_s 600)  # sanitizers slow a test by an order of magnitude

function(add_mnv2_test name)
    add_executable(${name} ${ARGN})
    target_link_libraries(${name} PRIVATE mnv2_core mnv2_compile_options Threads::Threads)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${mnv2_test_timeout_s})
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
