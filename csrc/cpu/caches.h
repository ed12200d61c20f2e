// The caches that plans are made for.
#pragma once

#include <cstdint>
#include <string>

namespace mnv2::cpu {

struct CacheSizes {
    int64_t l1, l2;  // bytes for one core: a cache that cores share is divided by their number
};

// What the system reports of the first processor, or what its kind usually has.
CacheSizes cache_sizes();

// The same from a folder as Linux has it at /sys/devices/system/cpu/cpu0.
CacheSizes read_cache_sizes(const std::string& processor);

}  // namespace mnv2::cpu
