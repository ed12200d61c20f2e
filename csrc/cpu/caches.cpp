#include "cpu/caches.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace mnv2::cpu {
namespace {

constexpr CacheSizes usual_sizes{32 << 10, 512 << 10};

// Caches of Arm's cores by the part number in MIDR_EL1, for systems that do not report them. The sizes are the technical
// reference manuals', as most boards and servers have them. Four cores of a Cortex-A53 or A72 share the second level.
struct ArmCore {
    uint32_t part;
    CacheSizes sizes;
};
constexpr ArmCore arm_cores[] = {
    {0xd03, {32 << 10, 128 << 10}},  // Cortex-A53
    {0xd08, {32 << 10, 256 << 10}},  // Cortex-A72
    {0xd0b, {64 << 10, 512 << 10}},  // Cortex-A76
    {0xd0c, {64 << 10, 1 << 20}},    // Neoverse N1
    {0xd40, {64 << 10, 1 << 20}},    // Neoverse V1
    {0xd49, {64 << 10, 1 << 20}},    // Neoverse N2
    {0xd4f, {64 << 10, 2 << 20}},    // Neoverse V2
};

std::string read_line(const std::string& path)
{
    std::string line;
    std::ifstream file(path);
    std::getline(file, line);
    return line;
}

// "64K" or "1M" in bytes; 0 for what is none.
int64_t bytes_of(const std::string& size)
{
    int64_t number = 0;
    size_t digits = 0;
    for (; digits < size.size() && size[digits] >= '0' && size[digits] <= '9'; ++digits) {
        if (number > (int64_t{1} << 40)) return 0;
        number = 10 * number + (size[digits] - '0');
    }
    const std::string unit = size.substr(digits);
    return unit == "K" ? number << 10 : unit == "M" ? number << 20 : unit.empty() ? number : 0;
}

// Processors in a list such as "0-3,8"; at least 1.
int64_t count_processors(const std::string& list)
{
    int64_t count = 0, first = 0, number = 0;
    bool is_range = false;
    for (const char c : list + ',') {
        if (c >= '0' && c <= '9' && number < (1 << 20)) {
            number = 10 * number + (c - '0');
        } else if (c == '-') {
            first = number, number = 0, is_range = true;
        } else if (c == ',') {
            count += is_range && number >= first ? number - first + 1 : 1;
            number = 0, is_range = false;
        }
    }
    return count;
}

const CacheSizes& sizes_of_core(const std::string& processor)
{
    constexpr uint64_t arm = 0x41;
    const std::string text = read_line(processor + "/regs/identification/midr_el1");
    const uint64_t midr = std::strtoull(text.c_str(), nullptr, 16);
    for (const ArmCore& core : arm_cores)
        if ((midr >> 24 & 0xff) == arm && (midr >> 4 & 0xfff) == core.part) return core.sizes;
    return usual_sizes;
}

int64_t value_or(long reported, int64_t fallback)
{
    return reported > 0 ? reported : fallback;
}

}  // namespace

CacheSizes read_cache_sizes(const std::string& processor)
{
    CacheSizes sizes = sizes_of_core(processor);
    for (int index = 0;; ++index) {
        const std::string cache = processor + "/cache/index" + std::to_string(index) + "/";
        const std::string level = read_line(cache + "level");
        if (level.empty()) return sizes;
        const int64_t bytes = bytes_of(read_line(cache + "size")) / count_processors(read_line(cache + "shared_cpu_list"));
        if (bytes <= 0 || read_line(cache + "type") == "Instruction") continue;
        if (level == "1") sizes.l1 = bytes;
        if (level == "2") sizes.l2 = bytes;
    }
}

CacheSizes cache_sizes()
{
#if defined(__x86_64__)
    // Hyperthreads share all caches, but torch runs one thread a core.
    static const CacheSizes sizes{value_or(sysconf(_SC_LEVEL1_DCACHE_SIZE), usual_sizes.l1),
                                  value_or(sysconf(_SC_LEVEL2_CACHE_SIZE), usual_sizes.l2)};
#else
    static const CacheSizes sizes = read_cache_sizes("/sys/devices/system/cpu/cpu0");
#endif
    return sizes;
}

}  // namespace mnv2::cpu
