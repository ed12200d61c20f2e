#include "cpu/run/scratch.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "core/sizes.h"

namespace mnv2::cpu {
namespace {

struct Free {
    void operator()(float* p) const { std::free(p); }
};

struct Area {
    std::unique_ptr<float, Free> memory;
    int64_t bytes = 0;
};

constexpr int64_t alignment = 64;

}  // namespace

float* thread_scratch(Scratch use, int64_t bytes)
{
    thread_local std::array<Area, static_cast<size_t>(Scratch::vectors) + 1> areas;
    Area& area = areas[static_cast<size_t>(use)];
    if (bytes > area.bytes || !area.memory) {
        area.memory.reset();
        area.bytes = 0;
        const int64_t rounded = std::max(round_up(bytes, alignment), alignment);
        area.memory.reset(static_cast<float*>(std::aligned_alloc(alignment, static_cast<size_t>(rounded))));
        if (area.memory) area.bytes = rounded;
    }
    return area.memory.get();
}

float* scratch_or_throw(Scratch use, int64_t floats)
{
    float* memory = thread_scratch(use, floats * static_cast<int64_t>(sizeof(float)));
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace mnv2::cpu
