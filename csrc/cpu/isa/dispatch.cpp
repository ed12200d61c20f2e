#include "cpu/isa/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/isa/fetch_ahead.h"
#include "cpu/isa/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mnv2::cpu {
namespace {

#if defined(__x86_64__)
bool supports_avx2()
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool supports_avx512()
{
    return supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

constexpr long tile_data = 18;

// Whether the system can give tile registers to a process.
bool offers_tile_registers()
{
    constexpr long get_supported = 0x1021;
    uint64_t components = 0;
    return syscall(SYS_arch_prctl, get_supported, &components) == 0 && (components >> tile_data & 1);
}

// The system gives them to processes that ask for them, which then need 8 KiB a thread and larger signal stacks: only those
// that multiply by AMX are to ask.
bool has_tile_registers()
{
    constexpr long request_permission = 0x1023;
    static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    return granted;
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

// With AVX-512's own bfloat16 instructions, which no processor with AMX lacks.
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

// Emerald Rapids takes 1.6 times as long by VDPBF16PS as by float32 multiply-adds (NOTES.md). AMD documents as many of both a
// cycle for its cores, on which this family has not been timed.
bool is_amd()
{
    return __builtin_cpu_is("amd");
}
#elif defined(__aarch64__)
bool supports_neon()
{
    return getauxval(AT_HWCAP) & HWCAP_ASIMD;
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

bool always()
{
    return true;
}

struct Candidate {
    const char* name;
    const Kernels* kernels;  // null where this build lacks them
    bool (*supported)();
    bool (*pays)() = always;    // whether it is faster than those behind it, on this processor
    bool (*enable)() = always;  // asks the system for what it needs; whether that was given

    bool is_here() const { return kernels && supported(); }
    bool runs() const { return is_here() && enable(); }

    // Whether its arithmetic is right for weights of a type: float32 is for all.
    bool serves(ScalarType weights) const
    {
        return kernels && (kernels->layout.stored == ScalarType::float32 || kernels->layout.stored == weights);
    }
};

// Best first.
constexpr Candidate candidates[] = {
#if defined(__x86_64__)
    {"amx_bf16", MNV2_HAVE_AMX_BF16 ? &amx_bf16_kernels : nullptr, supports_amx, always, has_tile_registers},
    {"avx512_bf16", MNV2_HAVE_AVX512_BF16 ? &avx512_bf16_kernels : nullptr, supports_avx512_bf16, is_amd},
    {"avx512", MNV2_HAVE_AVX512 ? &avx512_kernels : nullptr, supports_avx512},
    {"avx2", MNV2_HAVE_AVX2 ? &avx2_kernels : nullptr, supports_avx2},
#elif defined(__aarch64__)
    {"neon_bf16", MNV2_HAVE_NEON_BF16 ? &neon_bf16_kernels : nullptr, supports_neon_bf16},
    {"neon_fp16", MNV2_HAVE_NEON_FP16 ? &neon_fp16_kernels : nullptr, supports_neon_fp16},
    {"neon", MNV2_HAVE_NEON ? &neon_kernels : nullptr, supports_neon},
#endif
    {"scalar", &scalar_kernels, always},
};

std::string choices()
{
    std::string text;
    for (const Candidate& candidate : candidates)
        if (candidate.is_here()) text += (text.empty() ? "" : ", ") + std::string(candidate.name);
    return text;
}

// From candidate on; the last one always does.
const Kernels& first_to_serve(const Candidate* candidate, ScalarType weights)
{
    while (!candidate->serves(weights) || !candidate->runs() || !candidate->pays()) ++candidate;
    return *candidate->kernels;
}

const Kernels& forced_kernels(const std::string& name, ScalarType weights)
{
    for (const Candidate& candidate : candidates) {
        if (candidate.name != name) continue;
        if (candidate.is_here() && !candidate.serves(weights)) return first_to_serve(&candidate, weights);
        if (candidate.runs()) return *candidate.kernels;
        const char* owner = candidate.kernels ? "processor" : "build";
        throw std::runtime_error("MNV2_FORCE_ISA: this " + std::string(owner) + " does not support '" + name +
                                 "'; expected one of: " + choices());
    }
    throw std::runtime_error("MNV2_FORCE_ISA: unknown instruction set '" + name + "'; expected one of: " + choices());
}

}  // namespace

std::vector<IsaState> isa_states()
{
    std::vector<IsaState> states;
    for (const Candidate& candidate : candidates)
        states.push_back({candidate.name, candidate.kernels != nullptr, candidate.supported()});
    return states;
}

bool is_now(FetchAhead when, int64_t tiles)
{
#if defined(__x86_64__)
    if (__builtin_cpu_is("intel")) return when != FetchAhead::never;
#endif
    // A panel of one tile is read once: AMD's own prefetcher follows that stream faster alone (NOTES: Zen 4, linear layer).
    return when == FetchAhead::always && tiles > 1;
}

const Kernels& select_kernels(ScalarType weights)
{
    const char* forced = std::getenv("MNV2_FORCE_ISA");
    return forced && *forced ? forced_kernels(forced, weights) : first_to_serve(candidates, weights);
}

const Kernels& kernels_for(Isa isa)
{
    for (const Candidate& candidate : candidates)
        if (candidate.kernels && candidate.kernels->layout.isa == isa && candidate.runs()) return *candidate.kernels;
    throw std::runtime_error("weights were packed for an instruction set that this machine does not support; it supports: " +
                             choices());
}

}  // namespace mnv2::cpu
