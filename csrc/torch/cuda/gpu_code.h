// What keeps a GPU from running the CUDA kernels, in words.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/launch.h"

namespace mnv2::ops {

inline std::string capability_text(int32_t capability)
{
    return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
}

// compiled: the architectures of the library. Nothing where the GPU runs its code.
template <class Archs>
std::string lack_of_code(const cuda::Gpu& gpu, const Archs& compiled)
{
    constexpr int32_t least_capability = 80;  // that has cp.async and bfloat16
    if (gpu.code != 0) return "";
    const std::string found = "compute capability " + capability_text(gpu.capability) + ", and the CUDA kernels ";
    if (gpu.capability < least_capability) return found + "need " + capability_text(least_capability) + " or newer";
    std::string archs;
    for (const int32_t arch : compiled) archs += (archs.empty() ? "" : ", ") + capability_text(arch);
    return found + "are built for " + archs + ": build them with TORCH_CUDA_ARCH_LIST, or set MNV2_GPU_BACKEND=triton";
}

}  // namespace mnv2::ops
