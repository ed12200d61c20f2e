// Cache sizes from folders as Linux lays them out.
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "check.h"
#include "cpu/caches.h"

namespace mnv2::test {
namespace {

// A processor's folder, gone at the end.
class Processor {
public:
    Processor() : folder_(std::filesystem::temp_directory_path() / ("mnv2_caches_" + std::to_string(getpid())))
    {
        std::filesystem::create_directories(folder_);
    }
    ~Processor() { std::filesystem::remove_all(folder_); }
    Processor(const Processor&) = delete;
    Processor& operator=(const Processor&) = delete;

    void add_cache(const char* level, const char* type, const char* size, const char* shared)
    {
        const std::string cache = "cache/index" + std::to_string(caches_++) + "/";
        write(cache + "level", level);
        write(cache + "type", type);
        write(cache + "size", size);
        write(cache + "shared_cpu_list", shared);
    }
    void set_core(const char* midr) { write("regs/identification/midr_el1", midr); }

    void check(int64_t l1, int64_t l2) const
    {
        const cpu::CacheSizes sizes = cpu::read_cache_sizes(folder_.string());
        CHECK_EQUAL(sizes.l1, l1);
        CHECK_EQUAL(sizes.l2, l2);
    }

private:
    void write(const std::string& name, const char* text)
    {
        std::filesystem::create_directories((folder_ / name).parent_path());
        std::ofstream(folder_ / name) << text << '\n';
    }

    std::filesystem::path folder_;
    int caches_ = 0;
};

constexpr int64_t kib = 1024;

TEST(a_core_of_its_own_caches)
{
    Processor processor;
    processor.add_cache("1", "Data", "64K", "0");
    processor.add_cache("1", "Instruction", "48K", "0");
    processor.add_cache("2", "Unified", "1M", "0");
    processor.add_cache("3", "Unified", "32M", "0-63");
    processor.check(64 * kib, 1024 * kib);
}

TEST(cores_that_share_a_cache_have_a_part_each)
{
    Processor processor;
    processor.add_cache("1", "Data", "32K", "0");
    processor.add_cache("2", "Unified", "512K", "0-3");
    processor.check(32 * kib, 128 * kib);
}

TEST(sharing_cores_are_counted_in_lists_and_ranges)
{
    Processor processor;
    processor.add_cache("2", "Unified", "1024K", "0,2-3,8");
    processor.check(32 * kib, 256 * kib);
}

TEST(a_core_that_reports_nothing_has_what_its_kind_has)
{
    Processor processor;
    processor.check(32 * kib, 512 * kib);
    processor.set_core("0x00000000410fd034");
    processor.check(32 * kib, 128 * kib);
    processor.set_core("0x00000000414fd0b1");
    processor.check(64 * kib, 512 * kib);
    processor.set_core("0x00000000610f0240");  // not Arm's own
    processor.check(32 * kib, 512 * kib);
}

TEST(nonsense_is_nothing_reported)
{
    Processor processor;
    processor.add_cache("1", "Data", "", "0");
    processor.add_cache("2", "Unified", "many", "x-");
    processor.add_cache("2", "Unified", "99999999999999999999999K", "0");
    processor.check(32 * kib, 512 * kib);
}

}  // namespace
}  // namespace mnv2::test
