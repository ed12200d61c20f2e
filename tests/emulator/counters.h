// Counts what kernels ask of an H100 or A100 while the emulator runs them: wavefronts of shared memory by source line, mma
// instructions, arithmetic on pairs, bytes of global memory.
//
// An access of a warp is the n-th time that its lanes pass one source line between two meetings of the warp. Accesses of 8 and
// 16 bytes a lane are split as the hardware does, into halves and quarters of the warp; each part costs as many wavefronts as
// the busiest of 32 banks has different words. A multiprocessor serves one wavefront (128 bytes) a clock.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <set>

#include "emulator/emulator.h"

namespace emu {

struct SharedLine {
    bool store = false;
    uint64_t accesses = 0, wavefronts = 0;
    uint64_t ideal = 0;  // wavefronts without bank conflicts
};

struct Counts {
    uint64_t mma = 0;                // m16n8k8, of which an m16n8k16 is two
    uint64_t pair_operations = 0;    // on two 16-bit numbers, conversions included
    uint64_t float_operations = 0;   // multiply-adds of the depthwise convolution in float
    uint64_t global_read_bytes = 0;  // cp.async included
    uint64_t global_written_bytes = 0;
    uint64_t cluster_written_bytes = 0;  // to shared memory of a cluster's blocks
    std::map<int, SharedLine> shared;

    uint64_t wavefronts() const { return sum(&SharedLine::wavefronts); }
    uint64_t ideal_wavefronts() const { return sum(&SharedLine::ideal); }

private:
    uint64_t sum(uint64_t SharedLine::* what) const
    {
        uint64_t all = 0;
        for (const auto& [line, counts] : shared) all += counts.*what;
        return all;
    }
};

// One access of a warp, lane by lane.
struct SharedAccess {
    int bytes = 0;
    bool store = false;
    uint32_t lanes = 0;
    std::array<uintptr_t, 32> address{};
};

struct Counting {
    bool enabled = false;
    Counts counts;
    std::map<Warp*, std::map<std::pair<int, int>, SharedAccess>> open;  // by line and occurrence
    std::map<Fiber*, std::map<int, int>> passed;                        // occurrences since the last meeting
};

inline Counting counting;

inline void count(uint64_t Counts::* what, uint64_t by = 1)
{
    if (counting.enabled) counting.counts.*what += by;
}

inline void count_shared(int line, const void* address, int bytes, bool store)
{
    if (!counting.enabled) return;
    Fiber* const self = current();
    SharedAccess& access = counting.open[self->warp][{line, counting.passed[self][line]++}];
    access.bytes = bytes;
    access.store = store;
    access.lanes |= 1u << self->lane;
    access.address[static_cast<size_t>(self->lane)] = reinterpret_cast<uintptr_t>(address);
}

// Wavefronts of lanes first to last of an access; without conflicts where ideal.
inline uint64_t wavefronts_of(const SharedAccess& access, int first, int last, bool ideal)
{
    constexpr uintptr_t banks = 32, word = 4;
    std::set<uintptr_t> words;
    for (int lane = first; lane < last; ++lane)
        if (access.lanes >> lane & 1)
            for (uintptr_t at = 0; at < static_cast<uintptr_t>(access.bytes); at += word)
                words.insert((access.address[static_cast<size_t>(lane)] + at) / word);
    if (ideal) return (words.size() + banks - 1) / banks;
    std::array<uint64_t, banks> in_bank{};
    for (const uintptr_t w : words) ++in_bank[w % banks];
    return *std::max_element(in_bank.begin(), in_bank.end());
}

inline void close_access(int line, const SharedAccess& access)
{
    SharedLine& counts = counting.counts.shared[line];
    counts.store = access.store;
    ++counts.accesses;
    const int lanes = 32 / std::max(1, access.bytes / 4);
    for (int first = 0; first < 32; first += lanes) {
        counts.wavefronts += wavefronts_of(access, first, first + lanes, false);
        counts.ideal += wavefronts_of(access, first, first + lanes, true);
    }
}

inline void close_accesses(Warp* met)
{
    for (auto& [warp, accesses] : counting.open) {
        if (met && warp != met) continue;
        for (const auto& [key, access] : accesses) close_access(key.first, access);
        accesses.clear();
    }
    if (!met) return counting.passed.clear();
    for (int lane = 0; lane < 32; ++lane) counting.passed[&met->lanes[lane]].clear();
}

// What launches inside run() ask for.
template <class Run>
Counts counts_of(const Run& run)
{
    counting = {};
    counting.enabled = true;
    after_meeting = close_accesses;
    run();
    close_accesses(nullptr);
    counting.enabled = false;
    after_meeting = nullptr;
    return counting.counts;
}

}  // namespace emu
