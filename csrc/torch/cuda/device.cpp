#include "torch/cuda/device.h"

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "torch/cuda/gpu_code.h"

namespace mnv2::ops {
namespace {

// The function of torch/csrc/inductor/aoti_torch/c/shim.h, declared there only for builds with CUDA's headers. Looked up in the
// torch that runs, so that the build needs no torch with CUDA.
using GetCurrentStream = int32_t (*)(int32_t device, void** stream);

GetCurrentStream find_get_current_stream()
{
    constexpr const char* library = "libtorch_cuda.so";
    constexpr const char* function = "aoti_torch_get_current_cuda_stream";
    void* const torch_cuda = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    void* const found = torch_cuda ? dlsym(torch_cuda, function) : nullptr;
    if (!found) throw std::runtime_error(std::string("mnv2: ") + library + " of this torch has no " + function);
    return reinterpret_cast<GetCurrentStream>(found);
}

cuda::Stream current_stream(int32_t device)
{
    static const GetCurrentStream get_current_stream = find_get_current_stream();
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(get_current_stream(device, &stream));
    return static_cast<cuda::Stream>(stream);
}

std::vector<int32_t> compiled_archs()
{
    std::vector<int32_t> archs(static_cast<size_t>(cuda::mnv2_cuda_compiled_archs(nullptr, 0)));
    cuda::mnv2_cuda_compiled_archs(archs.data(), static_cast<int32_t>(archs.size()));
    return archs;
}

// `device` is the current device's number. A GPU is asked once, as that takes longer than a launch.
const cuda::Gpu& check_gpu(const char* op, int32_t device)
{
    static std::mutex mutex;
    static std::map<int32_t, cuda::Gpu> known;
    const std::lock_guard lock(mutex);
    const auto found = known.find(device);
    if (found != known.end()) return found->second;
    const cuda::Gpu gpu = cuda::query_gpu();
    if (const std::string lack = lack_of_code(gpu, compiled_archs()); !lack.empty())
        throw std::runtime_error(std::string("mnv2::") + op + ": cuda:" + std::to_string(device) + " has " + lack);
    return known.emplace(device, gpu).first->second;
}

}  // namespace

struct CurrentDevice::Guard {
    torch::stable::accelerator::DeviceGuard guard;
};

CurrentDevice::CurrentDevice(const char* op, const torch::stable::Tensor& tensor)
{
    const int32_t device = tensor.get_device_index();
    guard_.reset(new Guard{torch::stable::accelerator::DeviceGuard(device)});
    gpu_ = check_gpu(op, device);
    stream_ = current_stream(device);
}

CurrentDevice::~CurrentDevice() = default;

}  // namespace mnv2::ops
