#include "cpu/run/huge_pages.h"

#include <sys/mman.h>

#include "core/sizes.h"

namespace mnv2 {

void prefer_huge_pages(void* memory, int64_t bytes)
{
    constexpr uintptr_t page = uintptr_t{2} << 20;
    const auto first = reinterpret_cast<uintptr_t>(memory), last = first + static_cast<uintptr_t>(bytes);
    const uintptr_t begin = round_up(first, page), end = last / page * page;
    // A system that refuses leaves small pages, which are right, too.
    if (begin < end) static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
}

}  // namespace mnv2
