#include "cpu/run/huge_pages.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace mnv2 {

#ifdef __linux__
void prefer_huge_pages(void* memory, int64_t bytes)
{
    constexpr uintptr_t page = uintptr_t{2} << 20;
    const auto first = reinterpret_cast<uintptr_t>(memory), last = first + static_cast<uintptr_t>(bytes);
    const uintptr_t begin = (first + page - 1) / page * page, end = last / page * page;
    // A system that refuses leaves small pages, which are right, too.
    if (begin < end) static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
}
#else
void prefer_huge_pages(void*, int64_t) {}
#endif

}  // namespace mnv2
