#include "cpu/int8/isa/dispatch.h"

#include "cpu/int8/isa/isa.h"
#include "cpu/isa/candidates.h"
#include "cpu/isa/features.h"

namespace mnv2::cpu::int8 {
namespace {

using ByteCandidate = Candidate<Isa, Kernels>;

constexpr ByteCandidate candidate(Isa isa, const Kernels* kernels, bool (*supported)(), bool (*enable)() = always)
{
    return {isa, format_of(isa).name, kernels, supported, always, enable};
}

// Best first.
constexpr ByteCandidate candidates[] = {
#if defined(__x86_64__)
    candidate(Isa::amx_int8, MNV2_HAVE_AMX_INT8 ? &amx_int8_kernels : nullptr, supports_amx_int8, request_tile_registers),
    candidate(Isa::avx512_vnni, MNV2_HAVE_AVX512_VNNI ? &avx512_vnni_kernels : nullptr, supports_avx512_vnni),
    candidate(Isa::avx_vnni, MNV2_HAVE_AVX_VNNI ? &avx_vnni_kernels : nullptr, supports_avx_vnni),
    candidate(Isa::avx2, MNV2_HAVE_AVX2 ? &avx2_kernels : nullptr, supports_avx2),
#elif defined(__aarch64__)
    candidate(Isa::neon_i8mm, MNV2_HAVE_NEON_I8MM ? &neon_i8mm_kernels : nullptr, supports_neon_i8mm),
    candidate(Isa::neon_dotprod, MNV2_HAVE_NEON_DOTPROD ? &neon_dotprod_kernels : nullptr, supports_neon_dotprod),
    candidate(Isa::neon, MNV2_HAVE_NEON ? &neon_kernels : nullptr, supports_neon),
#endif
    candidate(Isa::scalar, &scalar_kernels, always),
};

}  // namespace

std::vector<IsaState> isa_states()
{
    return states_of(candidates);
}

const Kernels& select_kernels()
{
    if (const ByteCandidate* forced = forced_candidate(candidates)) {
        if (!forced->runs()) refuse_forced(forced->name, true);
        return *forced->kernels;
    }
    const ByteCandidate* best = candidates;
    while (!best->runs()) ++best;  // the last one always does
    return *best->kernels;
}

const Kernels& kernels_for(Isa isa)
{
    return kernels_among(candidates, isa);
}

}  // namespace mnv2::cpu::int8
