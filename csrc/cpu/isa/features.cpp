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

struct CpuId {
    uint32_t a, b, c, d;
};

// CPUID's leaf 7, zeros where there is none. It is slow on a virtual machine, which has to ask its host: callers ask once.
CpuId cpuid_of_seven(uint32_t subleaf)
{
    CpuId id{};
    return __get_cpuid_count(7, subleaf, &id.a, &id.b, &id.c, &id.d) ? id : CpuId{};
}

// Whether matrix tiles multiply what this bit of leaf 7 stands for.
bool has_tiles_with(uint32_t feature)
{
    constexpr uint32_t amx_tile = 1u << 24;
    const uint32_t found = cpuid_of_seven(0).d;
    return (found & feature) && (found & amx_tile) && offers_tile_registers();
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

bool supports_avx_vnni()
{
    constexpr uint32_t avx_vnni = 1u << 4;
    static const bool supported = supports_avx2() && (cpuid_of_seven(1).a & avx_vnni);
    return supported;
}

bool supports_avx512_bf16()
{
    constexpr uint32_t avx512_bf16 = 1u << 5;
    static const bool supported = supports_avx512() && (cpuid_of_seven(1).a & avx512_bf16);
    return supported;
}

bool supports_amx_bf16()
{
    constexpr uint32_t amx_bf16 = 1u << 22;
    static const bool supported = supports_avx512_bf16() && has_tiles_with(amx_bf16);
    return supported;
}

bool supports_amx_int8()
{
    constexpr uint32_t amx_int8 = 1u << 25;
    static const bool supported = supports_avx512_vnni() && has_tiles_with(amx_int8);
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

bool supports_neon_i8mm()
{
    return supports_neon() && getauxval(AT_HWCAP2) & HWCAP2_I8MM;
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
