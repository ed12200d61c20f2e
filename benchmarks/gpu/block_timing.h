// Times a CUDA kernel of the block by graph replay over inputs that together exceed L2.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

#include "cuda/launch.h"

namespace mnv2::bench {

constexpr int launches = 32;  // of one graph
constexpr int rounds = 12;    // replays, the first of which warm up
constexpr int warm_up_rounds = 3;
constexpr double rotated_bytes = 200e6;  // four times an H100's L2

struct Case {
    int64_t in, expanded, out, size;
    int32_t stride;
};

// MobileNetV2 1.0's of 14x14 and 7x7, which tile_block and cluster_block serve.
constexpr Case late_blocks[] = {{64, 384, 64, 14, 1},  {64, 384, 96, 14, 1},  {96, 576, 96, 14, 1},
                                {96, 576, 160, 14, 2}, {160, 960, 160, 7, 1}, {160, 960, 320, 7, 1}};

constexpr int64_t usual_batches[] = {1, 8, 64, 256};

// The entry points of one kernel.
struct Kernel {
    decltype(&cuda::register_block_bytes) bytes;
    decltype(&cuda::pack_register_block) pack;
    decltype(&cuda::register_block) run;
};

inline void check(cudaError_t error)
{
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

inline std::vector<float> random_values(std::mt19937& random, int64_t count)
{
    std::normal_distribution<float> normal(0.0f, 0.3f);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
}

inline std::vector<__half> random_image(std::mt19937& random, int64_t count)
{
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<__half> image(static_cast<size_t>(count));
    for (__half& value : image) value = __half(normal(random));
    return image;
}

template <class T>
void* to_device(const std::vector<T>& values)
{
    void* device = nullptr;
    check(cudaMalloc(&device, values.size() * sizeof(T)));
    check(cudaMemcpy(device, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return device;
}

// Microseconds of one launch: the median of graph replays.
template <class Launch>
double median_us(cudaStream_t stream, const Launch& launch)
{
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < launches; ++i) launch(i);
    check(cudaStreamEndCapture(stream, &graph));
    check(cudaGraphInstantiate(&replay, graph, 0));
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin));
    check(cudaEventCreate(&end));
    std::vector<float> times;
    for (int round = 0; round < rounds; ++round) {
        check(cudaEventRecord(begin, stream));
        check(cudaGraphLaunch(replay, stream));
        check(cudaEventRecord(end, stream));
        check(cudaEventSynchronize(end));
        float milliseconds;
        check(cudaEventElapsedTime(&milliseconds, begin, end));
        if (round >= warm_up_rounds) times.push_back(milliseconds * 1e3f / launches);
    }
    check(cudaGraphExecDestroy(replay));
    check(cudaGraphDestroy(graph));
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

inline void time_case(const Kernel& kernel, const Case& block, int64_t batch, const cuda::Gpu& gpu, cudaStream_t stream)
{
    InvertedResidualParams params{};
    params.batch = batch;
    params.height = params.width = block.size;
    params.in_channels = block.in;
    params.expanded_channels = block.expanded;
    params.out_channels = block.out;
    params.stride = block.stride;
    params.has_residual = block.stride == 1 && block.in == block.out;

    std::mt19937 random(1);
    const std::vector<float> expand = random_values(random, block.expanded * block.in);
    const std::vector<float> depthwise = random_values(random, block.expanded * kernel_taps);
    const std::vector<float> project = random_values(random, block.out * block.expanded);
    const auto bytes_packed = static_cast<size_t>(kernel.bytes(params, ScalarType::float16));
    void* const weights = to_device(std::vector<uint8_t>(bytes_packed));
    void* const layers[] = {to_device(expand), to_device(depthwise), to_device(project)};
    const auto layer = [&](int i) { return ConvolutionWeights{static_cast<const float*>(layers[i])}; };
    kernel.pack(params, ScalarType::float16, layer(0), layer(1), layer(2), weights, stream);

    const int64_t inputs = batch * block.size * block.size * block.in;
    const int64_t outputs = batch * params.out_height() * params.out_width() * block.out;
    const double bytes = 2.0 * static_cast<double>(inputs + outputs);
    const int sets = std::clamp(static_cast<int>(rotated_bytes / bytes), 1, launches);
    const std::vector<__half> image = random_image(random, inputs);
    std::vector<void*> x, y;
    for (int set = 0; set < sets; ++set) {
        x.push_back(to_device(image));
        y.push_back(to_device(std::vector<__half>(static_cast<size_t>(outputs))));
    }
    const double us = median_us(stream, [&](int i) {
        if (!kernel.run(params, ScalarType::float16, x[i % sets], weights, y[i % sets], gpu, stream))
            throw std::runtime_error("a timed block has no kernel");
    });
    std::printf("| %lld-%lld-%lld s%d @%lld | %lld | %.2f | %.3f | %.0f |\n", static_cast<long long>(block.in),
                static_cast<long long>(block.expanded), static_cast<long long>(block.out), block.stride,
                static_cast<long long>(block.size), static_cast<long long>(batch), us, us / static_cast<double>(batch),
                bytes / us * 1e-3);
    for (void* buffer : x) check(cudaFree(buffer));
    for (void* buffer : y) check(cudaFree(buffer));
    for (void* buffer : layers) check(cudaFree(buffer));
    check(cudaFree(weights));
}

// What a timing program's main() returns. GPUs of less capability than the kernel's have nothing to time.
inline int time_cases(const Kernel& kernel, std::span<const Case> cases, std::span<const int64_t> batches = usual_batches,
                      int32_t least_capability = 0)
{
    try {
        cudaDeviceProp properties;
        check(cudaGetDeviceProperties(&properties, 0));
        const cuda::Gpu gpu{properties.multiProcessorCount, properties.major * 10 + properties.minor,
                            static_cast<int64_t>(properties.sharedMemPerBlockOptin)};
        if (gpu.capability < least_capability) {
            std::printf("%s has no such kernel\n", properties.name);
            return EXIT_SUCCESS;
        }
        cudaStream_t stream;
        check(cudaStreamCreate(&stream));
        std::printf("%s, float16\n| block | batch | us | us an image | GB/s |\n|---|---|---|---|---|\n", properties.name);
        for (const Case& block : cases)
            for (const int64_t batch : batches) time_case(kernel, block, batch, gpu, stream);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "gpu-check: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

}  // namespace mnv2::bench
