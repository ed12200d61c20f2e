# Faults in the loops of the CPU's kernels, planted in a copy of their headers: with each of them a test has to fail. One program
# of each test holds them all; the environment names the one that it is to make.

set(mnv2_planted_dir "${CMAKE_CURRENT_BINARY_DIR}/generated/planted")
set(mnv2_planted_faults "")
set(mnv2_planted_tests "")

# mnv2_plant(fault header test filter before after): in csrc/<header> `after` takes the place of `before`, which stands there
# once; FAULT in it is true where the fault is to be made. Tests of the program `test` with `filter` in their names fail then.
macro(mnv2_plant fault header test filter before after)
    set(copy "${mnv2_planted_dir}/${header}")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/csrc/${header}")
    if(NOT DEFINED "planted_${header}")
        file(READ "${CMAKE_CURRENT_SOURCE_DIR}/csrc/${header}" "planted_${header}")
    endif()
    string(REPLACE "FAULT" "MNV2_PLANTED(${fault})" with_fault "${after}")
    string(REPLACE "${before}" "" without "${planted_${header}}")
    string(LENGTH "${before}" before_length)
    string(LENGTH "${without}" without_length)
    string(LENGTH "${planted_${header}}" all_length)
    math(EXPR twice "${all_length} - ${without_length} - ${before_length}")
    if(NOT twice EQUAL 0)
        message(FATAL_ERROR "planted fault ${fault}: expected once in ${header}: ${before}")
    endif()
    string(REPLACE "${before}" "${with_fault}" "planted_${header}" "${planted_${header}}")
    file(CONFIGURE OUTPUT "${copy}" CONTENT "${planted_${header}}" @ONLY)
    list(APPEND mnv2_planted_faults "${fault}/${test}/${filter}")
    list(APPEND mnv2_planted_tests ${test})
endmacro()

set(windows cpu/generic/depthwise_windows-inl.h)
mnv2_plant(left_columns ${windows} test_inverted_residual every_size "column < outside.left)" "column < outside.left - FAULT)")
mnv2_plant(right_columns ${windows} test_inverted_residual every_size
           "columns - outside.right)" "columns - outside.right + FAULT)")
mnv2_plant(weights_of_the_top ${windows} test_inverted_residual every_size
           "(top - row) * KERNEL" "(FAULT ? 0 : top - row) * KERNEL")
mnv2_plant(last_window_row ${windows} test_inverted_residual every_size "smaller(row + KERNEL," "smaller(row + KERNEL - FAULT,")
mnv2_plant(slot_of_the_first_row ${windows} test_inverted_residual every_plan "slot = top % input.slots"
           "slot = (top + FAULT) % input.slots")
mnv2_plant(window_of_a_smaller_group ${windows} test_inverted_residual every_size "first * GROUP.stride - window.pad_left"
           "first * GROUP.stride - window.pad_left - (FAULT && GROUP.outputs < most_outputs && first > 0)")
mnv2_plant(curve_behind_depthwise ${windows} test_inverted_residual every_plan
           "window.curve == Curve::none" "(FAULT || window.curve == Curve::none)")
mnv2_plant(last_curved_output ${windows} test_inverted_residual every_plan "o < outputs; ++o)" "o < outputs - FAULT; ++o)")

set(tiles cpu/generic/pointwise/tiles-inl.h)
mnv2_plant(channels_behind_the_last ${tiles} test_inverted_residual random
           "values.last_lanes == lanes;" "values.last_lanes == lanes || FAULT;")
mnv2_plant(shortcut_behind_a_curve ${tiles} test_inverted_residual activation "values.residual ?" "values.residual && !FAULT ?")
mnv2_plant(vector_of_a_curve ${tiles} test_inverted_residual every_plan
           "values.from + v * lanes" "values.from + (FAULT ? 0 : v) * lanes")

set(curves cpu/generic/curves-inl.h)
mnv2_plant(least_of_the_exponential ${curves} test_curves silu "splat_register(least)" "splat_register(FAULT ? -87.0f : least)")
mnv2_plant(most_of_the_exponential ${curves} test_curves silu "splat_register(most)" "splat_register(FAULT ? 16.0f : most)")
mnv2_plant(low_part_of_ln_2 ${curves} test_curves silu "splat_register(ln_2_low)" "splat_register(FAULT ? 0.0f : ln_2_low)")
mnv2_plant(hardswish_at_three ${curves} test_curves hardswish "splat_register(6.0f))" "splat_register(FAULT ? 5.99f : 6.0f))")

set(gate cpu/generic/gate-inl.h)
set(block cpu/generic/inverted_residual-inl.h)
mnv2_plant(last_pixel_of_a_mean ${gate} test_gate every_combination
           "whole.vector(vector, 0), pixels" "whole.vector(vector, 0), pixels - FAULT")
mnv2_plant(squeeze_of_one_vector_less ${gate} test_gate every_combination
           "vectors_of(x.channels) * lanes" "(vectors_of(x.channels) - FAULT) * lanes")
mnv2_plant(sigmoid_of_a_gate ${gate} test_gate every_activation "is_exact ?" "is_exact != FAULT ?")
mnv2_plant(chunk_behind_the_first ${gate} test_gate every_combination
           "block.compute_chunk(chunk);" "if (!FAULT || chunk.begin == 0) block.compute_chunk(chunk);")
mnv2_plant(factor_of_a_vector ${block} test_gate every_combination
           "load(factors + vector * lanes)" "load(factors + (FAULT ? 0 : vector) * lanes)")
mnv2_plant(strip_of_a_gate ${block} test_gate larger
           "depthwise_out_.vector(vector, strip.begin);" "depthwise_out_.vector(vector, FAULT ? 0 : strip.begin);")
mnv2_plant(rows_that_strips_share ${block} test_gate larger
           "row == 0 ? needed.begin : taken_end" "row == 0 ? needed.begin : taken_end + FAULT")

list(REMOVE_DUPLICATES mnv2_planted_tests)
list(JOIN mnv2_planted_faults "," mnv2_planted_faults)

# mnv2_test_planted_faults(source): a test of all of them, in the kernels of the portable instruction set's source.
function(mnv2_test_planted_faults source)
    add_library(mnv2_planted_kernels OBJECT ${source})
    target_include_directories(mnv2_planted_kernels BEFORE PRIVATE "${mnv2_planted_dir}" csrc)
    target_compile_options(mnv2_planted_kernels PRIVATE -O1 -include "${CMAKE_CURRENT_SOURCE_DIR}/tests/cpp/planted_fault.h")
    target_link_libraries(mnv2_planted_kernels PRIVATE mnv2_compile_options)
    foreach(test IN LISTS mnv2_planted_tests)
        # The archive's own scalar kernels are left out, since their table is there already.
        add_executable(planted_${test} $<TARGET_OBJECTS:${test}> $<TARGET_OBJECTS:mnv2_planted_kernels>)
        target_link_libraries(planted_${test} PRIVATE mnv2_core Threads::Threads)
    endforeach()
    add_test(
        NAME planted_faults
        COMMAND "${CMAKE_COMMAND}" -DFAULTS=${mnv2_planted_faults} -DPROGRAMS=$<TARGET_FILE_DIR:mnv2_core> -P
                "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/check_planted_faults.cmake")
endfunction()
