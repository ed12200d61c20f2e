// One block on buffers of its own, again and again: to measure its time, or its traffic and instructions under valgrind.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/block.h"
#include "cpu/caches.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"

namespace mnv2::cpu {

// Memory that starts on a cache line.
class LineBuffer {
public:
    // std::bad_alloc where there is no memory.
    explicit LineBuffer(int64_t bytes);
    void* data() const { return memory_.get(); }
    float* floats() const { return static_cast<float*>(memory_.get()); }

private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
};

// How a block is computed.
struct BlockWay {
    bool fused = true;   // or its convolutions one after another
    int64_t chunks = 0;  // of its expanded channels; 0: as planned
};

// Float32, channels_last in and out as in the operators, one thread. Two copies of everything that a block has to read or
// write, input, packed weights and result; one scratch for both, to which an image's depthwise results belong where a gate is
// to multiply them.
class BlockRun {
public:
    static constexpr int copies = 2;

    // A number of chunks demands a fused way and an expand.
    BlockRun(const InvertedResidualParams& params, const Kernels& kernels, const CacheSizes& caches, const BlockWay& way);

    void run(int copy = 0) const;

    const BlockPlan& plan() const { return plan_; }
    const Kernels& kernels() const { return kernels_; }
    const float* result(int copy = 0) const { return copies_[copy].y.floats(); }

private:
    struct Copy {
        LineBuffer x, packed, y;
    };

    Copy make_copy() const;
    void run_gated(const BlockTask& task) const;

    InvertedResidualParams params_;
    const Kernels& kernels_;
    bool fused_;
    BlockPlan plan_;
    int64_t strip_rows_;
    Copy copies_[copies];
    LineBuffer scratch_, gated_;
};

// Reads memory of that size, which drives everything else out of a simulated cache of the size.
void replace_cache(int64_t bytes);

}  // namespace mnv2::cpu

// Do nothing: names at which a tool such as callgrind can begin and end a count.
extern "C" __attribute__((visibility("default"))) void mnv2_count_begin();
extern "C" __attribute__((visibility("default"))) void mnv2_count_end();

namespace mnv2::cpu {

// One pass between calls of mnv2_count_begin and mnv2_count_end, with caches as a network's layer finds them: scratch as
// the last layer left it, everything else replaced by cache_bytes of other memory.
template <class Run>
void count_pass(const Run& run, int64_t cache_bytes)
{
    constexpr int other = 0, counted = 1;
    run.run(other);
    replace_cache(cache_bytes);
    run.run(other);
    mnv2_count_begin();
    run.run(counted);
    mnv2_count_end();
}

}  // namespace mnv2::cpu
