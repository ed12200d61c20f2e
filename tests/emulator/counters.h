// Counts what kernels ask of an H100 or A100 while the emulator runs them: wavefronts of shared memory by source line, mma
// instructions, arithmetic on pairs, sectors of global memory.
//
// An access of a warp is the n-th time that its lanes pass one place of the source between two meetings of the warp.
//
// Shared memory: accesses of 8 and 16 bytes a lane are split as the hardware does, into halves and quarters of the warp; each
// part costs as many wavefronts as the busiest of 32 banks has different words. A multiprocessor serves one wavefront (128
// bytes) a clock.
//
// Global memory: the L2 cache serves sectors of 32 bytes, each once for an access, whatever its lanes take of them. Loads that
// hit L1 do not reach it; L1 is taken to hold what a thread block has loaded last. cp.async and stores bypass L1.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <set>
#include <source_location>
#include <string>
#include <string_view>
#include <unordered_map>

#include "emulator/emulator.h"

namespace emu {

constexpr uint64_t sector_bytes = 32;
constexpr size_t l1_sectors =
    1024;  // 32 KiB for a thread block: an A100 has them left beside three blocks with 32 KiB of shared memory each

// A place in the source.
struct Place {
    const char* file;
    unsigned line, column;

    explicit Place(const std::source_location& at) : file(at.file_name()), line(at.line()), column(at.column()) {}
    auto operator<=>(const Place&) const = default;

    // Such as tile_block/expand.cuh:75.
    std::string name() const
    {
        const std::string_view path = file;
        return std::string(path.substr(path.rfind('/', path.rfind('/') - 1) + 1)) + ":" + std::to_string(line);
    }
};

enum class Space { shared, global, copy_source, copy_target };  // the last two belong to cp.async

struct SharedLine {
    uint64_t wavefronts = 0;
    uint64_t ideal = 0;  // wavefronts without bank conflicts
};

struct Counts {
    uint64_t mma = 0;                                          // m16n8k8; an m16n8k16 counts twice
    uint64_t pair_operations = 0;                              // on two 16-bit numbers, conversions included
    uint64_t float_operations = 0;                             // multiply-adds in float
    uint64_t global_read_bytes = 0, global_written_bytes = 0;  // whole sectors
    uint64_t cluster_written_bytes = 0;                        // to shared memory of a cluster's blocks
    std::map<std::string, SharedLine> shared;                  // by place
    std::map<std::string, uint64_t> instructions;              // warps' instructions, by their names in machine code

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
struct Access {
    Space space = Space::shared;
    bool store = false;
    int bytes = 0;
    unsigned block = 0;
    uint32_t lanes = 0;
    std::array<uintptr_t, 32> address{};
};

// The sectors that a thread block has loaded last.
class L1 {
public:
    // Returns whether it has the sector, and keeps it.
    bool load(uint64_t sector)
    {
        const auto found = at_.find(sector);
        if (found != at_.end()) {
            order_.splice(order_.begin(), order_, found->second);
            return true;
        }
        order_.push_front(sector);
        at_[sector] = order_.begin();
        if (order_.size() > l1_sectors) {
            at_.erase(order_.back());
            order_.pop_back();
        }
        return false;
    }

private:
    std::list<uint64_t> order_;
    std::unordered_map<uint64_t, std::list<uint64_t>::iterator> at_;
};

struct Counting {
    bool enabled = false;
    Counts counts;
    std::map<Warp*, std::map<std::pair<Place, int>, Access>> open;  // by place and occurrence
    std::map<Fiber*, std::map<Place, int>> passed;                  // occurrences since the last meeting
    std::map<unsigned, L1> l1;                                      // by thread block
};

inline Counting counting;

inline void count(uint64_t Counts::* what, uint64_t by = 1)
{
    if (counting.enabled) counting.counts.*what += by;
}

inline void count_instruction(const char* name)
{
    if (counting.enabled) ++counting.counts.instructions[name];
}

inline void count_access(const std::source_location& here, Space space, const void* address, int bytes, bool store)
{
    if (!counting.enabled) return;
    const Place place(here);
    Fiber* const self = current();
    Access& access = counting.open[self->warp][{place, counting.passed[self][place]++}];
    access.space = space;
    access.store = store;
    access.bytes = bytes;
    access.block = self->block->index.x;
    access.lanes |= 1u << self->lane;
    access.address[static_cast<size_t>(self->lane)] = reinterpret_cast<uintptr_t>(address);
}

// The different pieces of memory, `piece` bytes each, that lanes first to last of an access touch.
inline std::set<uintptr_t> pieces_of(const Access& access, int first, int last, uintptr_t piece)
{
    std::set<uintptr_t> pieces;
    for (int lane = first; lane < last; ++lane) {
        if (!(access.lanes >> lane & 1)) continue;
        const uintptr_t begin = access.address[static_cast<size_t>(lane)], end = begin + static_cast<uintptr_t>(access.bytes);
        for (uintptr_t at = begin / piece; at * piece < end; ++at) pieces.insert(at);
    }
    return pieces;
}

// Wavefronts of lanes first to last of an access; without conflicts where ideal.
inline uint64_t wavefronts_of(const Access& access, int first, int last, bool ideal)
{
    constexpr uintptr_t banks = 32, word = 4;
    const std::set<uintptr_t> words = pieces_of(access, first, last, word);
    if (ideal) return (words.size() + banks - 1) / banks;
    std::array<uint64_t, banks> in_bank{};
    for (const uintptr_t w : words) ++in_bank[w % banks];
    return *std::max_element(in_bank.begin(), in_bank.end());
}

inline void close_shared(const Place& place, const Access& access)
{
    SharedLine& counts = counting.counts.shared[place.name()];
    const int lanes = 32 / std::max(1, access.bytes / 4);
    for (int first = 0; first < 32; first += lanes) {
        counts.wavefronts += wavefronts_of(access, first, first + lanes, false);
        counts.ideal += wavefronts_of(access, first, first + lanes, true);
    }
}

inline void close_global(const Access& access)
{
    uint64_t& bytes = access.store ? counting.counts.global_written_bytes : counting.counts.global_read_bytes;
    for (const uintptr_t sector : pieces_of(access, 0, 32, sector_bytes))
        if (access.store || access.space == Space::copy_source || !counting.l1[access.block].load(sector))
            bytes += sector_bytes;
}

// The name in machine code, which has the bits from 64 on.
inline std::string instruction_of(const Access& access)
{
    if (access.space == Space::copy_source) return "LDGSTS.128";
    const bool shared = access.space == Space::shared;
    const std::string name = shared ? (access.store ? "STS" : "LDS") : (access.store ? "STG" : "LDG");
    return access.bytes > 4 ? name + "." + std::to_string(access.bytes * 8) : name;
}

inline void close_access(const Place& place, const Access& access)
{
    const bool is_copied = access.space == Space::copy_target;
    if (access.space == Space::shared || is_copied)
        close_shared(place, access);
    else
        close_global(access);
    if (!is_copied) ++counting.counts.instructions[instruction_of(access)];
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
