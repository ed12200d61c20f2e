#include "cpu/scratch.h"

#include <cstdlib>
#include <memory>

namespace mnv2::cpu {
namespace {

struct Free {
    void operator()(float* p) const { std::free(p); }
};

struct Scratch {
    std::unique_ptr<float, Free> memory;
    int64_t bytes = 0;
};

constexpr int64_t alignment = 64;

}  // namespace

float* thread_scratch(int64_t bytes)
{
    thread_local Scratch scratch;
    if (bytes > scratch.bytes) {
        scratch.memory.reset();
        scratch.bytes = 0;
        const int64_t rounded = (bytes + alignment - 1) / alignment * alignment;
        scratch.memory.reset(static_cast<float*>(std::aligned_alloc(alignment, static_cast<size_t>(rounded))));
        if (scratch.memory) scratch.bytes = rounded;
    }
    return scratch.memory.get();
}

}  // namespace mnv2::cpu
