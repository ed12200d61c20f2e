// Exchanges through shared memory, within a block and between the blocks of a cluster. They are free of races without an
// argument; an argument names what they lack. ThreadSanitizer has to report each race (cmake/emulator.cmake), or its silence
// about the kernels would prove nothing.
#include <cstdio>
#include <string_view>

#include "cuda/common/ptx.cuh"

namespace {

using namespace mnv2::cuda;

constexpr uint32_t threads = 64, rounds = 3, cluster_blocks = 2;

struct Plan {
    bool barrier_before_reads = true;   // all warps of the block meet
    bool barrier_before_writes = true;  // before the next round overwrites what was read
    bool warp_barrier = true;
    bool wait_before_barrier = true;  // for the copy
    bool cluster_barrier = true;      // before reads of what another block has stored
    bool cluster_release = true;      // the barrier orders these stores
};

struct Arguments {
    const float4* from;
    float* sums;
    Plan plan;
};

__global__ void exchange_kernel(Arguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    auto* const copied = reinterpret_cast<float4*>(shared);
    auto* const written = reinterpret_cast<float*>(shared + threads * sizeof(float4));
    const uint32_t i = threadIdx.x, in_other_warp = (i + 32) % threads, in_warp = i / 32 * 32 + (i + 1) % 32;
    float sum = 0.0f;
    for (uint32_t round = 0; round < rounds; ++round) {
        ptx::cp_async16(copied + i, p.from + i);
        ptx::cp_async_commit();
        if (p.plan.wait_before_barrier) ptx::cp_async_wait<0>();
        if (p.plan.barrier_before_reads) __syncthreads();
        ptx::cp_async_wait<0>();
        sum += copied[in_other_warp].x;

        // Lanes of a warp meet in an mma, but it orders no memory.
        written[i] = sum;
        float c[4] = {};
        const uint32_t a[2] = {};
        ptx::mma_m16n8k8<__half>(c, a, 0);
        if (p.plan.warp_barrier) __syncwarp();
        sum += written[in_warp] + c[0];
        if (p.plan.barrier_before_writes) __syncthreads();
    }
    p.sums[i] = sum;
}

// Each block of a cluster stores to the next one.
__global__ void cluster_exchange_kernel(Arguments p)
{
    MNV2_DYNAMIC_SHARED(shared);
    auto* const received = reinterpret_cast<uint4*>(shared);
    const uint32_t i = threadIdx.x, rank = ptx::cluster_rank();
    ptx::cluster_arrive_relaxed();  // all blocks have started
    ptx::cluster_wait();
    ptx::store_cluster(received + i, (rank + 1) % cluster_blocks, uint4{i, 0, 0, 0});
    if (p.plan.cluster_barrier) {
        p.plan.cluster_release ? ptx::cluster_arrive() : ptx::cluster_arrive_relaxed();
        ptx::cluster_wait();
    }
    p.sums[rank * threads + i] = static_cast<float>(received[i].x);
}

// Sets what the exchange lacks with this fault. Returns whether there is a fault of this name.
bool plan_of(std::string_view fault, Plan& plan)
{
    if (fault == "barrier_before_reads") return !(plan.barrier_before_reads = false);
    if (fault == "barrier_before_writes") return !(plan.barrier_before_writes = false);
    if (fault == "warp_barrier") return !(plan.warp_barrier = false);
    if (fault == "wait_before_barrier") return !(plan.wait_before_barrier = false);
    if (fault == "cluster_barrier") return !(plan.cluster_barrier = false);
    if (fault == "cluster_release") return !(plan.cluster_release = false);
    return fault.empty();
}

}  // namespace

int main(int count, char** arguments)
{
    Plan plan;
    if (!plan_of(count > 1 ? arguments[1] : "", plan)) return 1;
    alignas(16) float4 from[threads] = {};
    float sums[cluster_blocks * threads];
    const size_t shared_bytes = threads * (sizeof(float4) + sizeof(float));
    launch_kernel(exchange_kernel, dim3(2), dim3(threads), shared_bytes, nullptr, Arguments{from, sums, plan});
    launch_clusters(cluster_exchange_kernel, 2, cluster_blocks, dim3(threads), threads * sizeof(uint4), nullptr,
                    Arguments{from, sums, plan});
    std::printf("done\n");
}
