// Times CUDA kernels by graph replay over inputs that together exceed L2.
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
#include <string>
#include <utility>
#include <vector>

#include "cuda/launch.h"

namespace mnv2::bench {

constexpr int64_t usual_batches[] = {1, 8, 64, 256};
constexpr int launches = 32;  // in one graph
constexpr int rounds = 12;    // replays; the first ones warm up
constexpr int warm_up_rounds = 3;
constexpr double rotated_bytes = 200e6;     // four times an H100's L2
constexpr size_t different_values = 65521;  // of an image, then they repeat: drawing all takes longer than the kernels

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
    for (size_t i = 0; i < image.size(); ++i)
        image[i] = i < different_values ? __half(normal(random)) : image[i - different_values];
    return image;
}

// Memory on the GPU.
class Buffer {
public:
    explicit Buffer(size_t bytes) { check(cudaMalloc(&data_, bytes)); }

    template <class T>
    explicit Buffer(const std::vector<T>& values) : Buffer(values.size() * sizeof(T))
    {
        check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~Buffer() { cudaFree(data_); }
    Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    void* data() const { return data_; }

private:
    void* data_ = nullptr;
};

// A layer of random weights without scales and biases.
class Layer {
public:
    Layer(std::mt19937& random, int64_t weights) : weights_(random_values(random, weights)) {}

    ConvolutionWeights view() const { return {static_cast<const float*>(weights_.data())}; }

private:
    Buffer weights_;
};

// Microseconds of one launch: the median of graph replays.
template <class Launch>
double median_us(cudaStream_t stream, const Launch& launch)
{
    launch(0);  // the first launch loads the code, which a capture does not allow
    check(cudaStreamSynchronize(stream));
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

// A row's name, its batch, and the 16-bit numbers that a launch reads and writes.
struct Traffic {
    std::string name;
    int64_t batch, inputs, outputs;
};

// Prints a row of the table; launch(x, y) starts the kernel.
template <class Launch>
void time_row(const Traffic& traffic, cudaStream_t stream, const Launch& launch)
{
    const double bytes = 2.0 * static_cast<double>(traffic.inputs + traffic.outputs);
    const int sets = std::clamp(static_cast<int>(rotated_bytes / bytes), 1, launches);
    std::mt19937 random(1);
    const std::vector<__half> image = random_image(random, traffic.inputs);
    std::vector<Buffer> x, y;
    for (int set = 0; set < sets; ++set) {
        x.emplace_back(image);
        y.emplace_back(static_cast<size_t>(traffic.outputs) * sizeof(__half));
    }
    const double us = median_us(stream, [&](int i) {
        const auto set = static_cast<size_t>(i % sets);
        launch(x[set].data(), y[set].data());
    });
    std::printf("| %s | %lld | %.2f | %.3f | %.0f |\n", traffic.name.c_str(), static_cast<long long>(traffic.batch), us,
                us / static_cast<double>(traffic.batch), bytes / us * 1e-3);
}

inline void require(bool has_kernel)
{
    if (!has_kernel) throw std::runtime_error("what is timed has no kernel");
}

// What a timing program's main() returns; time_batch(batch, gpu, stream) prints rows. GPUs that run code older than the
// kernel's have nothing to time.
template <class TimeBatch>
int time_batches(const TimeBatch& time_batch, std::span<const int64_t> batches = usual_batches, int32_t least_code = 0)
{
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // a program that is stopped has printed its rows
    try {
        cudaDeviceProp properties;
        check(cudaGetDeviceProperties(&properties, 0));
        const cuda::Gpu gpu = cuda::query_gpu();
        if (gpu.code < least_code) {
            std::printf("%s has no such kernel\n", properties.name);
            return EXIT_SUCCESS;
        }
        cudaStream_t stream;
        check(cudaStreamCreate(&stream));
        std::printf("%s, float16\n| block | batch | us | us an image | GB/s |\n|---|---|---|---|---|\n", properties.name);
        for (const int64_t batch : batches) time_batch(batch, gpu, stream);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "gpu-check: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

}  // namespace mnv2::bench
