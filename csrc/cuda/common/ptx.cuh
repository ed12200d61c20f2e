// The PTX instructions that the kernels use, behind functions. Compiled as plain C++ they have the meaning that PTX's
// manual gives them (tests/emulator).
//
// T is __half or __nv_bfloat16; a uint32_t holds two of them, the lower index in the lower half. mma must be called by all
// 32 lanes of a warp together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#ifndef __CUDACC__
#include "emulator/ptx_host.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>

#define MNV2_DYNAMIC_SHARED(name) extern __shared__ __align__(128) uint8_t name[]

namespace mnv2::cuda::ptx {

template <class T>
constexpr bool is_half = std::is_same_v<T, __half>;

// An instruction whose name has T's between `before` and `after`.
#define MNV2_ASM_OF_T(before, after, ...)      \
    if constexpr (is_half<T>)                  \
        asm(before "f16" after : __VA_ARGS__); \
    else                                       \
        asm(before "bf16" after : __VA_ARGS__)

// d = c + a b. d and c are apart, so that one c can start many products. Fragments: with g = lane / 4 and q = lane % 4, a
// holds rows g, g + 8 at columns 2q, 2q + 1, then the same rows at columns 2q + 8, 2q + 9; b rows 2q, 2q + 1, then 2q + 8,
// 2q + 9 of column g; c and d columns 2q, 2q + 1 of row g, then of row g + 8.
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t* b, const float (&c)[4])
{
    if constexpr (is_half<T>)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

// c += a b over eight columns of a: rows g, g + 8 at columns 2q, 2q + 1.
template <class T>
__device__ __forceinline__ void mma_m16n8k8(float (&c)[4], const uint32_t (&a)[2], uint32_t b)
{
    if constexpr (is_half<T>)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(b));
    else
        asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(b));
}

// __syncthreads() for warps that may come from different places of the code.
__device__ __forceinline__ void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

// Starts to copy 16 bytes from global to shared memory.
__device__ __forceinline__ void cp_async16(void* shared, const void* global)
{
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int pending>
__device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// {low, high} rounded to two T.
template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high)
{
    uint32_t packed;
    MNV2_ASM_OF_T("cvt.rn.", "x2.f32 %0, %1, %2;", "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

// The same with negative values as 0; a NaN stays one.
template <class T>
__device__ __forceinline__ uint32_t pack2_relu(float low, float high)
{
    uint32_t packed;
    MNV2_ASM_OF_T("cvt.rn.relu.", "x2.f32 %0, %1, %2;", "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

template <class T>
__device__ __forceinline__ float2 unpack2(uint32_t pair)
{
    if constexpr (is_half<T>)
        return __half22float2(*reinterpret_cast<__half2*>(&pair));
    else
        return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}

// a b + c, rounded once.
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }

// Within a unit in the last place; infinity and 0 beyond the range of float32.
__device__ __forceinline__ float exponential(float x) { return expf(x); }

// 1 / x within a unit in the last place, for x that is no less than 1; 0 where that is no normal number. In a quarter of the
// instructions that a division takes.
__device__ __forceinline__ float reciprocal(float x)
{
    float rough;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(rough) : "f"(x));
    const float exact = fmaf(rough, fmaf(-x, rough, 1.0f), rough);
    return x < INFINITY ? exact : rough;  // infinity times 0 is no number
}

// sum += a b
__device__ __forceinline__ void add_product(float2& sum, float2 a, float2 b)
{
    sum.x += a.x * b.x;
    sum.y += a.y * b.y;
}

template <class T>
__device__ __forceinline__ uint32_t fma2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d;
    MNV2_ASM_OF_T("fma.rn.", "x2 %0, %1, %2, %3;", "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// min and max let a NaN through, as PyTorch's clamp does.
template <class T>
__device__ __forceinline__ uint32_t min2(uint32_t a, uint32_t b)
{
    uint32_t d;
    MNV2_ASM_OF_T("min.NaN.", "x2 %0, %1, %2;", "=r"(d) : "r"(a), "r"(b));
    return d;
}

template <class T>
__device__ __forceinline__ uint32_t max2(uint32_t a, uint32_t b)
{
    uint32_t d;
    MNV2_ASM_OF_T("max.NaN.", "x2 %0, %1, %2;", "=r"(d) : "r"(a), "r"(b));
    return d;
}

// The same for floats; low bounds the value first.
__device__ __forceinline__ float clamp(float value, float low, float high)
{
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(value) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(value) : "f"(high));
    return value;
}

// The value of the lane whose number differs in the bits of `mask`. All 32 lanes must call it together.
__device__ __forceinline__ float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

__device__ __forceinline__ uint32_t float_word(float value) { return __float_as_uint(value); }

// A load of constant memory that the compiler does not widen: a wider one would tie registers together that mma's
// fragments want apart, at the price of moves in the inner loop (measured: 140 of 708 instructions).
__device__ __forceinline__ uint32_t load_global32(const void* from)
{
    uint32_t value;
    asm("ld.global.nc.b32 %0, [%1];" : "=r"(value) : "l"(from));
    return value;
}

// Accesses that tests count, in shared memory by wavefronts, in global memory by bytes.
template <class V>
__device__ __forceinline__ V load_shared(const void* from)
{
    return *static_cast<const V*>(from);
}

template <class V>
__device__ __forceinline__ void store_shared(void* to, V value)
{
    *static_cast<V*>(to) = value;
}

template <class V>
__device__ __forceinline__ V load_global(const void* from)
{
    return __ldg(static_cast<const V*>(from));
}

// A load that the compiler leaves in its place behind earlier stores, so that registers do not hold the value for longer.
template <class V>
__device__ __forceinline__ V load_global_in_place(const void* from)
{
    return *static_cast<const V*>(from);
}

template <class V>
__device__ __forceinline__ void store_global(void* to, V value)
{
    *static_cast<V*>(to) = value;
}

// The compiler forgets how value came about, so that it keeps it instead of computing it again in a loop.
__device__ __forceinline__ void keep_in_register(uint32_t& value) { asm volatile("" : "+r"(value)); }

// Thread block clusters exist from compute capability 9.0 on: code that calls these is compiled for nothing older.

// The thread block's number in its cluster.
__device__ __forceinline__ uint32_t cluster_rank()
{
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// A barrier in two steps: after its wait a thread sees what the cluster's threads did before they arrived.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release;" ::: "memory"); }

// The same for a barrier that orders no memory: all blocks have come so far.
__device__ __forceinline__ void cluster_arrive_relaxed() { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }

__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }

// Stores to block `rank` of the cluster, at the place in its shared memory that `shared` has in this block's. Both blocks must
// have started and not ended.
__device__ __forceinline__ void store_cluster(void* shared, uint32_t rank, uint4 value)
{
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
    uint32_t remote;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
    asm volatile("st.shared::cluster.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(remote), "r"(value.x), "r"(value.y), "r"(value.z),
                 "r"(value.w)
                 : "memory");
}

}  // namespace mnv2::cuda::ptx

namespace mnv2::cuda {

// Throws std::runtime_error with CUDA's message.
inline void check_cuda(cudaError_t error)
{
    if (error == cudaSuccess) return;
    cudaGetLastError();  // or the next launch would report it, too
    throw std::runtime_error(cudaGetErrorString(error));
}

// Allows a kernel more dynamic shared memory than every kernel gets: all that the GPU has, whatever the launch takes. The limit
// belongs to the kernel, and a smaller one would fail launches of other threads and of the same graph.
template <class Arguments>
void allow_shared_bytes(void (*kernel)(Arguments), size_t bytes)
{
    constexpr size_t without_asking = 48 << 10;
    if (bytes <= without_asking) return;
    int device = 0, most = 0;
    check_cuda(cudaGetDevice(&device));
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
}

// Throws where the launch fails.
template <class Arguments>
void launch_kernel(void (*kernel)(Arguments), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   const Arguments& arguments)
{
    allow_shared_bytes(kernel, shared_bytes);
    kernel<<<grid, block, shared_bytes, stream>>>(arguments);
    check_cuda(cudaGetLastError());
}

// The same with clusters of cluster_blocks thread blocks, at most 8, which are neighbours in the grid.
template <class Arguments>
void launch_clusters(void (*kernel)(Arguments), unsigned clusters, unsigned cluster_blocks, dim3 block, size_t shared_bytes,
                     cudaStream_t stream, const Arguments& arguments)
{
    allow_shared_bytes(kernel, shared_bytes);
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {cluster_blocks, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(clusters * cluster_blocks);
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    check_cuda(cudaLaunchKernelEx(&config, kernel, arguments));
}

}  // namespace mnv2::cuda

#endif
