// The documented meaning of the instructions in cuda/ptx.cuh, for the emulator.
#pragma once

#ifdef __F16C__
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "emulator/counters.h"
#include "emulator/emulator.h"
#include "emulator/faults.h"

namespace mnv2::cuda::ptx {

template <class T>
constexpr bool is_half = std::is_same_v<T, __half>;

using emu::count, emu::count_access, emu::Counts, emu::executes, emu::Instruction, emu::Space;
using Here = std::source_location;  // the call's place, as a default argument

inline void check_aligned(const void* address, size_t bytes)
{
    if (reinterpret_cast<uintptr_t>(address) % bytes != 0) emu::fail("an access is not aligned to its size");
}

template <class T>
inline float to_float(uint16_t bits)
{
#if defined(__F16C__)
    if constexpr (is_half<T>) return _cvtsh_ss(bits);
#endif
    T value;
    std::memcpy(static_cast<void*>(&value), &bits, 2);
    return float(value);
}
template <class T>
inline uint16_t to_bits(float f)
{
#if defined(__F16C__)
    if constexpr (is_half<T>) return _cvtss_sh(f, 0);
#endif
    T value(f);
    uint16_t bits;
    std::memcpy(&bits, &value, 2);
    return bits;
}
template <class T>
inline float low(uint32_t v)
{
    return to_float<T>(v & 0xffff);
}
template <class T>
inline float high(uint32_t v)
{
    return to_float<T>(v >> 16);
}

// The fragments of mma: with g = lane / 4 and t = lane % 4, register r of A holds row
// g + 8 * (r % 2), columns 2t, 2t + 1 (+ 8 for r >= 2); register r of B holds column g,
// rows 2t, 2t + 1 (+ 8 for r = 1); C holds rows g and g + 8, columns 2t and 2t + 1.
template <class T, int K>
void mma_m16n8(float* c, const uint32_t* a, const uint32_t* b)
{
    struct Lane {
        float* c;
        const uint32_t *a, *b;
    } lane{c, a, b};
    emu::collective<Lane>("mma", ~0u, lane, [](Lane* const* lanes, uint32_t) {
        count(&Counts::mma, K / 8);
        emu::count_instruction(K == 16 ? "HMMA.16816" : "HMMA.1688");
        float A[16][K], B[K][8], C[16][8];
        for (int i = 0; i < 32; ++i) {
            int g = i / 4, t = i % 4 * 2;
            for (int r = 0; r < K / 4; ++r) {
                uint32_t v = lanes[i]->a[r];
                float* to = &A[g + 8 * (r % 2)][t + r / 2 * 8];
                to[0] = low<T>(v), to[1] = high<T>(v);
            }
            for (int r = 0; r < K / 8; ++r) {
                uint32_t v = lanes[i]->b[r];
                B[t + 8 * r][g] = low<T>(v), B[t + 8 * r + 1][g] = high<T>(v);
            }
            for (int r = 0; r < 4; ++r) C[g + r / 2 * 8][t + r % 2] = lanes[i]->c[r];
        }
        for (int m = 0; m < 16; ++m)
            for (int k = 0; k < K; ++k)
                for (int n = 0; n < 8; ++n) C[m][n] += A[m][k] * B[k][n];
        for (int i = 0; i < 32; ++i)
            for (int r = 0; r < 4; ++r) lanes[i]->c[r] = C[i / 4 + r / 2 * 8][i % 4 * 2 + r % 2];
    });
}
template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t* b, const float (&c)[4])
{
    float sum[4] = {c[0], c[1], c[2], c[3]};
    mma_m16n8<T, 16>(sum, a, b);
    std::copy_n(sum, 4, d);
}
template <class T>
void mma_m16n8k8(float (&c)[4], const uint32_t (&a)[2], uint32_t b)
{
    mma_m16n8<T, 8>(c, a, &b);
}

inline void block_barrier()
{
    if (executes(Instruction::block_barrier)) __syncthreads();
}
inline void cp_async16(void* shared, const void* global, const Here& here = Here::current())
{
    count_access(here, Space::copy_source, global, 16, false);
    count_access(here, Space::copy_target, shared, 16, true);
    emu::copy_issue(shared, global);
}
inline void cp_async_commit()
{
    if (executes(Instruction::copy_commit)) emu::copy_commit();
}
template <int Pending>
inline void cp_async_wait()
{
    if (executes(Instruction::copy_wait, Pending)) emu::copy_wait(Pending);
}

template <class T, class F>
uint32_t by_half(F f)
{  // f(0) and f(1), each rounded once, as a pair
    count(&Counts::pair_operations);
    return to_bits<T>(f(0)) | uint32_t(to_bits<T>(f(1))) << 16;
}
template <class T>
inline float element(uint32_t v, int i)
{
    return i ? high<T>(v) : low<T>(v);
}

template <class T>
uint32_t pack2(float lo, float hi)
{
    return by_half<T>([&](int i) { return i ? hi : lo; });
}
template <class T>
uint32_t pack2_relu(float lo, float hi)
{  // a NaN stays a NaN
    return by_half<T>([&](int i) {
        float v = i ? hi : lo;
        return v < 0 ? 0.f : v;
    });
}
template <class T>
float2 unpack2(uint32_t v)
{
    return {low<T>(v), high<T>(v)};
}
inline float multiply_add(float a, float b, float c)
{
    count(&Counts::float_operations);
    return std::fma(a, b, c);
}
inline void add_product(float2& sum, float2 a, float2 b)
{
    count(&Counts::float_operations, 2);
    sum.x += a.x * b.x, sum.y += a.y * b.y;
}
template <class T>
uint32_t fma2(uint32_t a, uint32_t b, uint32_t c)
{
    // The product of two T is exact in float for both types; double keeps the sum exact
    // enough that one rounding remains in all but contrived cases.
    return by_half<T>([&](int i) { return float(double(element<T>(a, i)) * element<T>(b, i) + element<T>(c, i)); });
}
inline float nan_or(float a, float b, float otherwise)
{
    return std::isnan(a) ? a : std::isnan(b) ? b : otherwise;
}
template <class T>
uint32_t min2(uint32_t a, uint32_t b)
{
    return by_half<T>([&](int i) {
        float x = element<T>(a, i), y = element<T>(b, i);
        return nan_or(x, y, std::min(x, y));
    });
}
template <class T>
uint32_t max2(uint32_t a, uint32_t b)
{
    return by_half<T>([&](int i) {
        float x = element<T>(a, i), y = element<T>(b, i);
        return nan_or(x, y, std::max(x, y));
    });
}

inline float exponential(float x)
{
    return std::exp(x);
}

inline float reciprocal(float x)
{
    return 1.0f / x;
}

inline float clamp(float value, float low, float high)
{
    return std::isnan(value) ? value : std::min(std::max(value, low), high);
}

inline float shuffle_xor(float value, int mask)
{
    struct Lane {
        float value;
        int mask;
    } mine{value, mask};
    emu::collective<Lane>("shuffle_xor", ~0u, mine, [](Lane* const* lanes, uint32_t) {
        float values[32];
        for (int i = 0; i < 32; ++i) values[i] = lanes[i]->value;
        for (int i = 0; i < 32; ++i) lanes[i]->value = values[i ^ lanes[i]->mask];
    });
    return mine.value;
}

inline uint32_t float_word(float value)
{
    return std::bit_cast<uint32_t>(value);
}

template <class V>
V load_shared(const void* from, const Here& here = Here::current())
{
    check_aligned(from, sizeof(V));
    count_access(here, Space::shared, from, sizeof(V), false);
    return *static_cast<const V*>(from);
}
template <class V>
void store_shared(void* to, V value, const Here& here = Here::current())
{
    check_aligned(to, sizeof(V));
    count_access(here, Space::shared, to, sizeof(V), true);
    if (executes(Instruction::store_shared, 0, here)) *static_cast<V*>(to) = value;
}
template <class V>
V load_global(const void* from, const Here& here = Here::current())
{
    check_aligned(from, sizeof(V));
    count_access(here, Space::global, from, sizeof(V), false);
    return *static_cast<const V*>(from);
}
template <class V>
V load_global_in_place(const void* from, const Here& here = Here::current())
{
    return load_global<V>(from, here);
}
template <class V>
void store_global(void* to, V value, const Here& here = Here::current())
{
    check_aligned(to, sizeof(V));
    count_access(here, Space::global, to, sizeof(V), true);
    *static_cast<V*>(to) = value;
}
inline uint32_t load_global32(const void* from, const Here& here = Here::current())
{
    return load_global<uint32_t>(from, here);
}
inline void keep_in_register(uint32_t&) {}

inline uint32_t cluster_rank()
{
    return emu::current()->block->rank;
}
inline void cluster_arrive()
{
    if (executes(Instruction::cluster_arrive)) emu::cluster_arrive(true);
}
inline void cluster_arrive_relaxed()
{
    if (executes(Instruction::cluster_arrive_relaxed)) emu::cluster_arrive(false);
}
inline void cluster_wait()
{
    if (executes(Instruction::cluster_wait)) emu::cluster_wait();
}
inline void store_cluster(void* shared, uint32_t rank, uint4 value)
{
    check_aligned(shared, sizeof(value));
    count(&Counts::cluster_written_bytes, sizeof(value));
    if (!executes(Instruction::store_cluster, rank, Here::current())) return;
    *reinterpret_cast<uint4*>(emu::cluster_address(shared, sizeof(value), rank)) = value;
}

}  // namespace mnv2::cuda::ptx
