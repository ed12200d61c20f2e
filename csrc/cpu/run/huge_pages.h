// Larger pages for memory that is read from end to end: a network's weights fill more pages than a processor remembers.
#pragma once

#include <cstdint>

namespace mnv2 {

// Asks for huge pages as far as they can cover [memory, memory + bytes). Call before the first write. Where the
// system has none this does nothing.
void prefer_huge_pages(void* memory, int64_t bytes);

}  // namespace mnv2
