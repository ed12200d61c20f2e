// Memory whose neighbours are protected pages: one access outside of it ends the program.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace mnv2::test {

enum class Placement { ends_at_guard, begins_at_guard };

constexpr Placement placements[] = {Placement::ends_at_guard, Placement::begins_at_guard};

class GuardedBuffer {
public:
    GuardedBuffer(size_t bytes, Placement placement)
    {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), inside = (bytes + page - 1) / page * page;
        mapped_bytes_ = inside + 2 * page;
        mapped_ = mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped_ == MAP_FAILED) throw std::runtime_error("mmap failed");
        char* first = static_cast<char*>(mapped_) + page;
        if (inside && mprotect(first, inside, PROT_READ | PROT_WRITE)) throw std::runtime_error("mprotect failed");
        data_ = placement == Placement::begins_at_guard ? first : first + inside - bytes;
    }
    GuardedBuffer(const std::vector<uint8_t>& bytes, Placement placement) : GuardedBuffer(bytes.size(), placement)
    {
        if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
    }
    ~GuardedBuffer() { munmap(mapped_, mapped_bytes_); }
    GuardedBuffer(const GuardedBuffer&) = delete;
    GuardedBuffer& operator=(const GuardedBuffer&) = delete;

    void* data() const { return data_; }
    float* floats() const { return reinterpret_cast<float*>(data_); }

private:
    void* mapped_;
    size_t mapped_bytes_;
    char* data_;
};

}  // namespace mnv2::test
