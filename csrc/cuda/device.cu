#include "cuda/launch.h"

namespace mnv2::cuda {

int32_t mnv2_cuda_compiled_archs(int32_t* archs, int32_t capacity)
{
    constexpr int32_t compiled[] = {__CUDA_ARCH_LIST__};  // nvcc: 800,900
    int32_t count = 0;
    for (const int32_t arch : compiled) {
        if (count < capacity) archs[count] = arch / 10;
        ++count;
    }
    return count;
}

}  // namespace mnv2::cuda
