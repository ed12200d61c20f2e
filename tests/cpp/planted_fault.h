// Included before kernels in which cmake/planted_faults.cmake has planted faults.
#pragma once

#include <cstdlib>
#include <string_view>

namespace mnv2::test {

// The environment is read once for each fault.
inline bool is_planted(std::string_view fault)
{
    const char* planted = std::getenv("MNV2_PLANTED_FAULT");
    return planted && fault == planted;
}

}  // namespace mnv2::test

#define MNV2_PLANTED(fault)                                    \
    ([] {                                                      \
        static const bool is = mnv2::test::is_planted(#fault); \
        return is;                                             \
    }())
