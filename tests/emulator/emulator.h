// Runs a CUDA kernel on the host, one fiber per CUDA thread. A kernel written against cuda/ptx.cuh compiles as CUDA and,
// by way of this header, as plain C++:
//
//   * blocks of one cluster run together, clusters one after another; a block's access to another's shared memory is an error
//     before the cluster has met, when that block need not have started, and after that block's end;
//   * fibers are resumed in an order drawn from Options::seed. Warps carry random priorities that change now and then, so
//     that some schedules let one warp run far ahead of the rest; a missing barrier then changes the result;
//   * shared memory is filled with NaN patterns before each block;
//   * cp.async poisons its target when issued and writes the bytes only at the wait;
//   * warp collectives (mma) meet lane by lane; lanes of one mask that meet in different operations are an error;
//   * if nothing can run and threads are left, the launch throws Error with a census of where they wait;
//   * under -fsanitize=thread, __syncthreads, __syncwarp and cluster barriers are the only happens-before edges, so data
//     races are reported whatever the schedule.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);
extern "C" void __tsan_read16(void*);
extern "C" void __tsan_write16(void*);
#endif

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __forceinline__
#define __forceinline__ inline
#define MNV2_DYNAMIC_SHARED(name) uint8_t* name = emu::current()->block->shared

namespace emu {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Options {
    uint64_t seed = 1;          // 0: threads in order, no shuffling
    int priority_period = 200;  // resumptions after which a warp's priority is redrawn, on average
    size_t stack_bytes = 128 << 10;
};

struct Warp;
inline Options options;
inline void (*after_meeting)(Warp*) = nullptr;  // called when a warp's lanes have met, or with null after a barrier

// ---- race detector hooks (empty unless built with -fsanitize=thread) ----------------
#if defined(__SANITIZE_THREAD__)
struct Quiet {  // the emulator's own bookkeeping is not part of the program under test
    Quiet() { AnnotateIgnoreReadsBegin("", 0), AnnotateIgnoreWritesBegin("", 0); }
    ~Quiet() { AnnotateIgnoreWritesEnd("", 0), AnnotateIgnoreReadsEnd("", 0); }
};
#define EMU_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
inline void publish(void* p)
{
    __tsan_release(p);
}
inline void observe(void* p)
{
    __tsan_acquire(p);
}
inline void reads16(const void* p)
{
    __tsan_read16(const_cast<void*>(p));
}
inline void writes16(void* p)
{
    __tsan_write16(p);
}
inline void* race_self()
{
    return __tsan_get_current_fiber();
}
inline void* race_create()
{
    return __tsan_create_fiber(0);
}
inline void race_switch(void* fiber)
{
    __tsan_switch_to_fiber(fiber, 1);
}
#else
struct Quiet {
    Quiet() {}
};
#define EMU_UNCHECKED
inline void publish(void*) {}
inline void observe(void*) {}
inline void reads16(const void*) {}
inline void writes16(void*) {}
inline void* race_self()
{
    return nullptr;
}
inline void* race_create()
{
    return nullptr;
}
inline void race_switch(void*) {}
#endif

// Consecutive uses of one barrier hand over through alternating tokens; with a single one
// a thread that leaves late would also be ordered after those already at the next use.
struct Tokens {
    unsigned phase = 0;
    char token[2];
    EMU_UNCHECKED void* now() { return &token[phase & 1]; }
};

// ---- context switch -------------------------------------------------------------------
#if defined(__x86_64__)
extern "C" void emu_switch(void** save, void* load);
asm(R"(
.pushsection .text.emu_switch,"axG",@progbits,emu_switch,comdat
.weak emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.popsection
)");
struct Context {
    void* sp = nullptr;
    void prepare(uint8_t* stack, size_t bytes, void (*entry)())
    {
        auto** top = reinterpret_cast<void**>(stack + bytes);
        *--top = nullptr;  // keeps the entry's frame aligned
        *--top = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; ++i) *--top = nullptr;
        sp = top;
    }
    EMU_UNCHECKED static void swap(Context& from, Context& to) { emu_switch(&from.sp, to.sp); }
};
#else
struct Context {
    ucontext_t u;
    void prepare(uint8_t* stack, size_t bytes, void (*entry)())
    {
        getcontext(&u);
        u.uc_stack.ss_sp = stack, u.uc_stack.ss_size = bytes, u.uc_link = nullptr;
        makecontext(&u, entry, 0);
    }
    EMU_UNCHECKED static void swap(Context& from, Context& to) { swapcontext(&from.u, &to.u); }
};
#endif

// ---- the machine ----------------------------------------------------------------------
struct Block;
struct Warp;

// The instructions that a planted fault can change.
enum class Instruction {
    block_barrier,
    copy_commit,
    copy_wait,
    store_shared,
    cluster_arrive,
    cluster_arrive_relaxed,
    cluster_wait,
    store_cluster
};
constexpr size_t instruction_kinds = 8;

struct Fiber {
    Context context;
    Block* block = nullptr;
    Warp* warp = nullptr;
    int lane = 0;
    uint3 tid{};
    const char* waits_at = nullptr;  // null while it can run
    uint8_t* stack = nullptr;
    void* race_fiber = nullptr;
    struct Copy {
        void* to;
        const void* from;  // null: zero fill
    };
    std::vector<Copy> copies;                     // issued by cp.async and not yet waited for
    std::vector<size_t> commits;                  // copies.size() at each commit still outstanding
    void* cluster_token = nullptr;                // between arriving at the cluster's barrier and waiting there
    std::array<int, instruction_kinds> issued{};  // instructions by kind, counted while a fault is planted
};

struct Rendezvous {
    Tokens tokens;
    uint32_t mask = 0, arrived = 0;
    const void* operation = nullptr;
    const char* name = nullptr;
    void* arguments[32];
};

struct Warp {
    uint32_t runnable = 0;
    uint64_t priority = 0;
    Fiber* lanes = nullptr;
    Rendezvous meet[32];  // by the lowest lane of the mask
};

struct Barrier {
    Tokens tokens;
    std::vector<Fiber*> waiting;
};

// Where threads arrive and wait in two steps.
struct SplitBarrier {
    Tokens tokens;
    unsigned arrived = 0;
    std::vector<Fiber*> waiting;
};

struct Block {
    uint3 index{};
    unsigned rank = 0;        // in its cluster
    unsigned unfinished = 0;  // of its threads
    uint8_t* shared = nullptr;
    std::unique_ptr<uint8_t[]> storage;
    size_t shared_bytes = 0;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Barrier barriers[16];
};

struct Machine {
    dim3 grid, block;
    unsigned cluster = 1;
    std::function<void()> kernel;
    std::vector<std::unique_ptr<Block>> blocks;  // the blocks of the cluster under way
    SplitBarrier cluster_barrier;
    Fiber* now = nullptr;
    Context home;
    void* home_race_fiber = nullptr;
    unsigned unfinished = 0;
    std::string failure;
    uint64_t random = 0;
    char launch_token = 0;

    uint64_t draw()
    {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        return random * 0x2545F4914F6CDD1Dull >> 16;
    }
};

inline Machine machine;
EMU_UNCHECKED inline Fiber* current()
{
    return machine.now;
}

EMU_UNCHECKED inline void jump(Fiber* previous, Fiber* next)
{  // null is the launch itself
    race_switch(next ? next->race_fiber : machine.home_race_fiber);
    Context::swap(previous ? previous->context : machine.home, next ? next->context : machine.home);
}

inline void switch_to(Fiber* next)
{
    Fiber* previous = machine.now;
    if (next == previous) return;
    machine.now = next;
    jump(previous, next);
}

[[noreturn]] inline void fail(const std::string& why)
{
    machine.failure = why;
    if (!machine.now) throw Error(why);
    switch_to(nullptr);  // the launch throws; this fiber is never resumed
    __builtin_unreachable();
}

// The next fiber: a random runnable lane of the runnable warp of highest priority.
inline Fiber* pick()
{
    Warp* best = nullptr;
    for (auto& block : machine.blocks)
        for (Warp& warp : block->warps)
            if (warp.runnable && (!best || warp.priority > best->priority)) best = &warp;
    if (!best) return nullptr;
    if (options.seed == 0) return &best->lanes[__builtin_ctz(best->runnable)];
    uint64_t r = machine.draw();
    if ((r >> 5) % options.priority_period == 0) best->priority = machine.draw();
    int turn = r & 31;
    uint32_t turned = best->runnable >> turn | best->runnable << ((32 - turn) & 31);
    return &best->lanes[(__builtin_ctz(turned) + turn) & 31];
}

inline void stop(Fiber* fiber, const char* where)
{
    fiber->waits_at = where;
    fiber->warp->runnable &= ~(1u << fiber->lane);
}

inline void wait_here(const char* where)
{
    stop(current(), where);
    switch_to(pick());  // home, when nothing can run
}

inline void wake(Fiber* fiber)
{
    fiber->waits_at = nullptr;
    fiber->warp->runnable |= 1u << fiber->lane;
}

inline void arrive_and_wait(Barrier& barrier, unsigned expected, const char* where)
{
    void* token = barrier.tokens.now();
    publish(token);
    {
        Quiet quiet;
        barrier.waiting.push_back(current());
        if (barrier.waiting.size() < expected) {
            wait_here(where);
        } else {
            ++barrier.tokens.phase;
            if (after_meeting) after_meeting(nullptr);
            for (Fiber* fiber : barrier.waiting) wake(fiber);
            barrier.waiting.clear();
            switch_to(pick());
        }
    }
    observe(token);
}

// ---- clusters ---------------------------------------------------------------------------
// Lets waiting threads go once all that have not ended have arrived.
inline void meet_in_cluster()
{
    SplitBarrier& barrier = machine.cluster_barrier;
    if (barrier.arrived == 0 || barrier.arrived < machine.unfinished) return;
    barrier.arrived = 0, ++barrier.tokens.phase;
    if (after_meeting) after_meeting(nullptr);
    for (Fiber* fiber : barrier.waiting) wake(fiber);
    barrier.waiting.clear();
}

// If `releases`, what the thread did before is ordered before what others do after their wait.
inline void cluster_arrive(bool releases)
{
    SplitBarrier& barrier = machine.cluster_barrier;
    if (releases) publish(barrier.tokens.now());
    Quiet quiet;
    if (current()->cluster_token) fail("a thread arrives twice at the cluster's barrier and does not wait between");
    current()->cluster_token = barrier.tokens.now();
    ++barrier.arrived;
    meet_in_cluster();
}

inline void cluster_wait()
{
    void* const token = current()->cluster_token;
    {
        Quiet quiet;
        if (!token) fail("a thread waits at the cluster's barrier and has not arrived");
        SplitBarrier& barrier = machine.cluster_barrier;
        if (token == barrier.tokens.now()) {
            barrier.waiting.push_back(current());
            wait_here("the cluster's barrier");
        }
        current()->cluster_token = nullptr;
    }
    observe(token);
}

// The same place in the shared memory of another block of the cluster.
inline uint8_t* cluster_address(const void* shared, size_t bytes, unsigned rank)
{
    Quiet quiet;
    const size_t at = static_cast<size_t>(static_cast<const uint8_t*>(shared) - current()->block->shared);
    if (rank >= machine.cluster) fail("the cluster has no block " + std::to_string(rank));
    Block& block = *machine.blocks[rank];
    if (at + bytes > block.shared_bytes) fail("an access is outside of a block's shared memory");
    if (machine.cluster_barrier.tokens.phase == 0) fail("an access to a block that need not have started");
    if (block.unfinished == 0) fail("an access to a block that has ended");
    return block.shared + at;
}

// All lanes of `mask` meet; the last to come runs operation(arguments of every lane).
template <class A>
void collective(const char* name, uint32_t mask, A& mine, void (*operation)(A* const* lanes, uint32_t mask))
{
    Quiet quiet;
    Fiber* self = current();
    Warp& warp = *self->warp;
    if (!(mask >> self->lane & 1)) fail(std::string(name) + ": the caller is not in its mask");
    Rendezvous& meet = warp.meet[__builtin_ctz(mask)];
    const void* key = reinterpret_cast<const void*>(operation);
    if (!meet.arrived) meet.mask = mask, meet.operation = key, meet.name = name;
    if (meet.operation != key || meet.mask != mask)
        fail(std::string("lanes of one warp meet in ") + meet.name + " and " + name);
    meet.arguments[self->lane] = &mine;
    meet.arrived |= 1u << self->lane;
    if (meet.arrived != mask) return wait_here(name);
    meet.arrived = 0, ++meet.tokens.phase;
    {
        A* lanes[32];
        for (int i = 0; i < 32; ++i) lanes[i] = static_cast<A*>(meet.arguments[i]);
        operation(lanes, mask);
    }
    if (after_meeting) after_meeting(&warp);
    for (int i = 0; i < 32; ++i)
        if (mask >> i & 1) wake(&warp.lanes[i]);
}

// ---- cp.async ---------------------------------------------------------------------------
inline void copy_issue(void* to, const void* from)
{
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) & 15) fail("cp.async: misaligned address");
    writes16(to);
    Quiet quiet;
    std::memset(to, 0xff, 16);  // whoever reads before the wait reads NaN
    current()->copies.push_back({to, from});
}
inline void copy_commit()
{
    Quiet quiet;
    current()->commits.push_back(current()->copies.size());
}
inline void copy_wait(size_t pending)
{
    Fiber* self = current();
    if (self->commits.size() <= pending) return;
    size_t groups = self->commits.size() - pending, count = self->commits[groups - 1];
    for (size_t i = 0; i < count; ++i) {
        auto [to, from] = self->copies[i];
        if (from) reads16(from);
        writes16(to);
        Quiet quiet;
        from ? std::memcpy(to, from, 16) : std::memset(to, 0, 16);
    }
    Quiet quiet;
    self->copies.erase(self->copies.begin(), self->copies.begin() + count);
    self->commits.erase(self->commits.begin(), self->commits.begin() + groups);
    for (size_t& end : self->commits) end -= count;
}

// ---- launching ----------------------------------------------------------------------------
[[noreturn]] EMU_UNCHECKED inline void end_thread()
{
    publish(&machine.launch_token);
    Fiber *self = current(), *next;
    {
        Quiet quiet;
        if (!self->copies.empty()) fail("a thread ends with cp.async copies it never waited for");
        if (self->cluster_token) fail("a thread ends between arriving at the cluster's barrier and waiting there");
        stop(self, "the end");
        --machine.unfinished, --self->block->unfinished;
        meet_in_cluster();
        machine.now = next = pick();
    }
    jump(self, next);
    __builtin_unreachable();
}

EMU_UNCHECKED inline void fiber_main()
{
    observe(&machine.launch_token);
    machine.kernel();
    end_thread();
}

struct StackPool {  // kept between blocks and launches
    std::vector<uint8_t*> free;
    size_t bytes = 0;
    uint8_t* take(size_t size)
    {
        if (size != bytes) free.clear(), bytes = size;
        if (free.empty()) {
            void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) throw Error("no memory for fiber stacks");
            mprotect(p, 4096, PROT_NONE);  // an overflow faults
            return static_cast<uint8_t*>(p);
        }
        uint8_t* p = free.back();
        free.pop_back();
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(p + 4096, bytes - 4096);  // frames that never returned
#endif
        return p;
    }
};
inline StackPool stacks;

// The race detector's side of a thread is kept, too: setting it up takes longer than a small kernel. Blocks run one
// after the other and are ordered by the launch's token, so that what an earlier thread has seen hides no race.
struct RaceFiberPool {
    std::vector<void*> free;
    void* take()
    {
        if (free.empty()) return race_create();
        void* const fiber = free.back();
        free.pop_back();
        return fiber;
    }
};
inline RaceFiberPool race_fibers;

inline std::unique_ptr<Block> make_block(uint3 index, unsigned rank, size_t shared_bytes)
{
    auto block = std::make_unique<Block>();
    unsigned threads = machine.block.x * machine.block.y * machine.block.z;
    if (threads == 0 || threads % 32) throw Error("the block size must be a multiple of 32");
    block->index = index, block->rank = rank, block->unfinished = threads, block->shared_bytes = shared_bytes;
    block->storage.reset(new uint8_t[shared_bytes + 128]);
    auto base = reinterpret_cast<uintptr_t>(block->storage.get());
    block->shared = reinterpret_cast<uint8_t*>((base + 127) & ~uintptr_t(127));
    std::memset(block->shared, 0xff, shared_bytes);
    block->fibers.resize(threads), block->warps.resize(threads / 32);
    for (unsigned i = 0; i < threads; ++i) {
        Fiber& fiber = block->fibers[i];
        fiber.block = block.get(), fiber.warp = &block->warps[i / 32], fiber.lane = i % 32;
        fiber.tid = {i % machine.block.x, i / machine.block.x % machine.block.y, i / machine.block.x / machine.block.y};
        fiber.stack = stacks.take(options.stack_bytes);
        fiber.context.prepare(fiber.stack, options.stack_bytes, fiber_main);
        fiber.race_fiber = race_fibers.take();
        if (i % 32 == 0) {
            fiber.warp->lanes = &fiber, fiber.warp->runnable = ~0u;
            fiber.warp->priority = options.seed ? machine.draw() : 0;
        }
    }
    return block;
}

inline std::string census()
{
    std::map<std::string, int> at;
    for (auto& block : machine.blocks)
        for (Fiber& fiber : block->fibers) ++at[fiber.waits_at ? fiber.waits_at : "nowhere"];
    std::string text = "deadlock: threads wait at";
    for (auto& [where, count] : at) text += " " + where + " x" + std::to_string(count) + ",";
    text.pop_back();
    return text;
}

inline void run(dim3 grid, dim3 block, size_t shared_bytes, unsigned cluster, std::function<void()> kernel)
{
    if (cluster == 0 || grid.x % cluster) throw Error("grid.x is no multiple of the cluster");
    if (shared_bytes > 227 * 1024) throw Error("more shared memory than an H100 block can have");
    {
        Quiet quiet;
        machine.grid = grid, machine.block = block, machine.cluster = cluster;
        machine.kernel = std::move(kernel), machine.failure.clear();
        machine.random = options.seed * 0x9E3779B97F4A7C15ull + 0x1234567;
        machine.home_race_fiber = race_self();
    }
    for (unsigned i = 0; i < grid.x * grid.y * grid.z; i += cluster) {
        machine.cluster_barrier = {};
        for (unsigned rank = 0; rank < cluster; ++rank) {
            unsigned x = (i + rank) % grid.x, y = (i + rank) / grid.x;
            machine.blocks.push_back(make_block({x, y % grid.y, y / grid.y}, rank, shared_bytes));
        }
        unsigned threads = cluster * block.x * block.y * block.z;
        machine.unfinished = threads;
        publish(&machine.launch_token);
        switch_to(pick());
        observe(&machine.launch_token);
        if (machine.failure.empty() && machine.unfinished) machine.failure = census();
        if (after_meeting) after_meeting(nullptr);
        Quiet quiet;
        for (auto& b : machine.blocks)
            for (Fiber& fiber : b->fibers) {
                stacks.free.push_back(fiber.stack);
                if (machine.failure.empty()) race_fibers.free.push_back(fiber.race_fiber);  // others end within a call
            }
        machine.blocks.clear();
        if (!machine.failure.empty()) throw Error(machine.failure);
    }
}

}  // namespace emu

namespace mnv2::cuda {

template <class Arguments, class Stream>
void launch_kernel(void (*kernel)(Arguments), dim3 grid, dim3 block, size_t shared_bytes, Stream, const Arguments& arguments)
{
    emu::run(grid, block, shared_bytes, 1, [&] { kernel(arguments); });
}

template <class Arguments, class Stream>
void launch_clusters(void (*kernel)(Arguments), unsigned clusters, unsigned cluster_blocks, dim3 block, size_t shared_bytes,
                     Stream, const Arguments& arguments)
{
    emu::run(dim3(clusters * cluster_blocks), block, shared_bytes, cluster_blocks, [&] { kernel(arguments); });
}

}  // namespace mnv2::cuda

// ---- what CUDA C++ provides -----------------------------------------------------------------
using std::max;
using std::min;
#define threadIdx (emu::current()->tid)
#define blockIdx (emu::current()->block->index)
#define blockDim (emu::machine.block)
#define gridDim (emu::machine.grid)

inline void __syncthreads()
{
    emu::Block& b = *emu::current()->block;
    emu::arrive_and_wait(b.barriers[0], b.fibers.size(), "__syncthreads");
}

inline void __syncwarp(uint32_t mask = ~0u)
{
    struct Nothing {
    } nothing;
    void* token = emu::current()->warp->meet[__builtin_ctz(mask)].tokens.now();
    emu::publish(token);
    emu::collective<Nothing>("__syncwarp", mask, nothing, [](Nothing* const*, uint32_t) {});
    emu::observe(token);
}
