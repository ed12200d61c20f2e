#include "cpu/isa/features.h"

#include <cstdint>

#include "cpu/isa/fetch_ahead.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mnv2::cpu {

#if defined(__x86_64__)

namespace {

constexpr long tile_data = 18;

// Whether the system can give tile registers to a process.
bool offers_tile_registers()
{
    constexpr long get_supported = 0x1021;
    uint64_t components = 0;
    return syscall(SYS_arch_prctl, get_supported, &components) == 0 && (components >> tile_data & 1);
}

}  // namespace

bool supports_avx2()
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

bool supports_avx512()
{
    return supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool supports_avx512_vnni()
{
    return supports_avx512() && __builtin_cpu_supports("avx512vnni");
}

// CPUID is slow on a virtual machine, which has to ask its host: once is enough.
bool supports_avx512_bf16()
{
    static const bool supported = [] {
        constexpr uint32_t avx512_bf16 = 1u << 5;
        uint32_t a, b, c, d;
        return supports_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & avx512_bf16);
    }();
    return supported;
}

bool supports_amx()
{
    static const bool supported = [] {
        constexpr uint32_t amx_bf16 = 1u << 22, amx_tile = 1u << 24;
        uint32_t a, b, c, d;
        const bool has_amx = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx_bf16) && (d & amx_tile);
        return has_amx && supports_avx512_bf16() && offers_tile_registers();
    }();
    return supported;
}

bool request_tile_registers()
{
    constexpr long request_permission = 0x1023;
    static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    return granted;
}

bool is_amd()
{
    return __builtin_cpu_is("amd");
}

#elif defined(__aarch64__)

bool supports_neon()
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMD;
}

bool supports_neon_dotprod()
{
    return supports_neon() && getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}

bool supports_neon_fp16()
{
    return supports_neon() && getauxval(AT_HWCAP) & HWCAP_ASIMDHP;
}

bool supports_neon_bf16()
{
    return supports_neon() && getauxval(AT_HWCAP2) & HWCAP2_BF16;
}

#endif

// Called once a panel.
bool is_now(FetchAhead when, int64_t tiles)
{
#if defined(__x86_64__)
    if (__builtin_cpu_is("intel")) return when != FetchAhead::never;
#endif
    // A panel of one tile is read once: AMD's own prefetcher follows that stream faster alone (NOTES: Zen 4, linear layer).
    return when == FetchAhead::always && tiles > 1;
}

}  // namespace mnv2::cpu
