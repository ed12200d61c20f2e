// Faults that a test plants in a kernel: it decides what a thread makes of an instruction.
#pragma once

#include <cstdint>
#include <source_location>
#include <string_view>

#include "emulator/emulator.h"

namespace emu {

// An instruction that a thread is about to execute.
struct Issue {
    Instruction instruction;
    int before;         // instructions of this kind that the thread has issued before
    uint32_t& operand;  // copy_wait: the groups that may be pending; store_cluster: the rank, which a fault may change
    std::source_location here;

    bool is(Instruction kind) const { return instruction == kind; }

    // Whether a function of this name issues it.
    bool is_in(std::string_view function) const
    {
        return std::string_view(here.function_name()).find(function) != std::string_view::npos;
    }
};

// Returns whether the thread executes the instruction.
using Fault = bool (*)(const Issue&);

inline Fault planted_fault = nullptr;

inline bool executes(Instruction instruction, uint32_t& operand, const std::source_location& here)
{
    if (!planted_fault) return true;
    const int before = current()->issued[static_cast<size_t>(instruction)]++;
    return planted_fault({instruction, before, operand, here});
}

inline bool executes(Instruction instruction, uint32_t&& operand = 0,
                     const std::source_location& here = std::source_location::current())
{
    return executes(instruction, operand, here);
}

}  // namespace emu
