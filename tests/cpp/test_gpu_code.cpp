// What the operators say of GPUs that cannot run the CUDA kernels; no such GPU is needed.
#include <array>
#include <string>

#include "check.h"
#include "torch/cuda/gpu_code.h"

namespace mnv2::test {
namespace {

constexpr std::array ampere_and_hopper{80, 90};

std::string lack(int32_t capability, int32_t code)
{
    return ops::lack_of_code({132, capability, 227 << 10, code}, ampere_and_hopper);
}

TEST(a_gpu_that_runs_some_code_lacks_nothing)
{
    CHECK_EQUAL(lack(80, 80), "");
    CHECK_EQUAL(lack(89, 80), "");
    CHECK_EQUAL(lack(120, 90), "");
}

TEST(a_gpu_that_is_too_old_is_told_what_kernels_need)
{
    CHECK_EQUAL(lack(75, 0), "compute capability 7.5, and the CUDA kernels need 8.0 or newer");
}

TEST(a_gpu_that_was_not_compiled_for_is_told_how_to)
{
    CHECK_EQUAL(lack(86, 0),
                "compute capability 8.6, and the CUDA kernels are built for 8.0, 9.0: build them with TORCH_CUDA_ARCH_LIST, or "
                "set MNV2_GPU_BACKEND=triton");
}

}  // namespace
}  // namespace mnv2::test
