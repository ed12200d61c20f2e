// Which instruction set runs, and what is said where none can.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/int8/isa/dispatch.h"
#include "cpu/isa/dispatch.h"
#include "cpu/measure/peak.h"
#include "isas.h"

namespace mnv2::test {
namespace {

template <class Function>
std::string error_of(const Function& function)
{
    try {
        function();
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "no error";
}

// By either kind of kernels; the error is the same.
std::string error_of_forcing(const char* name)
{
    const ForcedIsa forced(name);
    const std::string error = error_of([] { cpu::select_kernels(); });
    CHECK_EQUAL(error_of([] { cpu::int8::select_kernels(); }), error);
    return error;
}

std::vector<std::string> runnable(const std::vector<cpu::IsaState>& states = cpu::isa_states())
{
    std::vector<std::string> names;
    for (const cpu::IsaState& isa : states)
        if (isa.compiled && isa.supported) names.emplace_back(isa.name);
    return names;
}

std::string listed(const std::vector<std::string>& names)
{
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

// The names of kernels of floats, then those that only kernels of bytes have.
std::vector<cpu::IsaState> all_states()
{
    std::vector<cpu::IsaState> all = cpu::isa_states();
    for (const cpu::IsaState& state : cpu::int8::isa_states()) {
        const auto is_same = [&](const cpu::IsaState& other) { return std::string(state.name) == other.name; };
        if (std::none_of(all.begin(), all.end(), is_same)) all.push_back(state);
    }
    return all;
}

std::string choices()
{
    return listed(runnable(all_states()));
}

// As Linux names what an instruction set needs most.
std::string flag_of(const std::string& isa)
{
    if (isa == "avx512") return "avx512f";
    if (isa == "neon") return "asimd";
    if (isa == "neon_fp16") return "asimdhp";
    if (isa == "neon_bf16") return "bf16";
    if (isa == "neon_dotprod") return "asimddp";
    if (isa == "neon_i8mm") return "i8mm";
    return isa;
}

// The names of what this processor has, between spaces.
std::string processor_flags()
{
    std::ifstream cpuinfo("/proc/cpuinfo");
    std::string line;
    while (std::getline(cpuinfo, line))
        if (line.starts_with("flags") || line.starts_with("Features")) return line + " ";
    return "";
}

// Nothing may be left out in silence: an emulator's caller knows what its processor has, elsewhere Linux says it.
TEST(this_processor_runs_what_was_expected_of_it)
{
    if (const char* expected = std::getenv("MNV2_EXPECTED_ISAS")) return CHECK_EQUAL(choices(), std::string(expected));
    const std::string flags = processor_flags();
    for (const cpu::IsaState& isa : all_states()) {
        const std::string name = isa.name;
        CHECK_EQUAL(isa.supported, name == "scalar" || flags.find(" " + flag_of(name) + " ") != std::string::npos);
    }
}

TEST(scalar_runs_everywhere)
{
    CHECK_EQUAL(runnable().back(), "scalar");
}

// VDPBF16PS pays on AMD's processors alone.
bool pays([[maybe_unused]] const std::string& name)
{
#if defined(__x86_64__)
    if (name == "avx512_bf16") return __builtin_cpu_is("amd");
#endif
    return true;
}

// The first instruction set of the list that pays for weights of that type; one for 16 bits serves its own type only.
std::string best_for(ScalarType weights)
{
    const std::string own = weights == ScalarType::float16 ? "fp16" : weights == ScalarType::bfloat16 ? "bf16" : "none";
    for (const std::string& name : runnable())
        if ((!is_sixteen_bits(name) || name.ends_with(own)) && pays(name)) return name;
    return "none";
}

TEST(the_first_of_the_list_is_the_default)
{
    unsetenv(force_isa);
    for (const ScalarType weights : {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16})
        CHECK_EQUAL(std::string(cpu::select_kernels(weights).name), best_for(weights));
}

TEST(a_forced_float32_one_serves_every_type)
{
    for_each_isa([](const cpu::Kernels& kernels) {
        for (const ScalarType weights : {ScalarType::float16, ScalarType::bfloat16})
            CHECK(&cpu::select_kernels(weights) == &kernels);
    });
}

TEST(a_forced_one_is_selected_and_found_again_by_its_weights)
{
    for (const ScalarType weights : {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16})
        for_each_isa(weights, [](const cpu::Kernels& kernels) { CHECK(&cpu::kernels_for(kernels.layout.isa) == &kernels); });
}

// A header names the instruction set; what its packed weights look like is derived from the table of formats.
TEST(kernels_take_what_headers_of_their_name_promise)
{
    for (const ScalarType weights : {ScalarType::float32, ScalarType::float16, ScalarType::bfloat16})
        for_each_isa(weights, [](const cpu::Kernels& kernels) {
            const PackLayout& layout = kernels.layout;
            const IsaFormat& format = format_of(layout.isa);
            CHECK_EQUAL(std::string(kernels.name), std::string(format.name));
            CHECK_EQUAL(layout.vector_width, format.vector_width);
            CHECK_EQUAL(layout.panel_vectors, format.panel_vectors);
            CHECK(layout.stored == format.stored);
            CHECK(format.serves(layout.stored));
        });
}

TEST(an_unknown_name_is_an_error_that_lists_the_choices)
{
    for (const std::string name : {"sse9", "AVX2", "avx2 ", "scalar,avx2"})
        CHECK_EQUAL(error_of_forcing(name.c_str()),
                    join("MNV2_FORCE_ISA: unknown instruction set '", name, "'; expected one of: ", choices()));
}

TEST(what_this_machine_lacks_is_an_error_that_lists_the_choices)
{
    for (const cpu::IsaState& isa : all_states()) {
        const bool runs = isa.compiled && isa.supported;
        const std::string owner = isa.compiled ? "processor" : "build";
        const std::string refusal =
            join("MNV2_FORCE_ISA: this ", owner, " does not support '", isa.name, "'; expected one of: ", choices());
        CHECK_EQUAL(error_of_forcing(isa.name), runs ? "no error" : refusal);
    }
}

TEST(weights_of_another_architecture_are_refused)
{
    constexpr Isa foreign =
#if defined(__x86_64__)
        Isa::neon;
#else
        Isa::avx2;
#endif
    const std::string refusal = "weights were packed for an instruction set that this machine does not support; it supports: ";
    CHECK_EQUAL(error_of([] { cpu::kernels_for(foreign); }), refusal + listed(runnable()));
    CHECK_EQUAL(error_of([] { cpu::kernels_for(static_cast<Isa>(99)); }), refusal + listed(runnable()));
}

TEST(a_name_that_only_the_other_kernels_know_forces_nothing)
{
    const cpu::Kernels& best = cpu::select_kernels();
    const cpu::int8::Kernels& best_of_bytes = cpu::int8::select_kernels();
    const std::vector<std::string> floats = runnable(), bytes = runnable(cpu::int8::isa_states());
    const auto has = [](const std::vector<std::string>& names, const std::string& name) {
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    for (const std::string& name : runnable(all_states())) {
        const ForcedIsa forced(name.c_str());
        if (!has(floats, name)) CHECK(&cpu::select_kernels() == &best);
        if (!has(bytes, name)) CHECK(&cpu::int8::select_kernels() == &best_of_bytes);
        if (has(bytes, name)) CHECK_EQUAL(std::string(cpu::int8::select_kernels().format.name), name);
    }
}

// Twelve chains of x -> x / 2 + 1 end at 2.
TEST(the_peak_is_measured_on_multiply_adds)
{
    for_each_isa([](const cpu::Kernels& kernels) {
        float values[] = {0.5f, 1.0f, 0.0f};
        const auto operations = static_cast<int64_t>(kernels.fma_burst(100, values));
        const int64_t register_width = operations / (2 * 12 * 100);
        CHECK_EQUAL(operations, 2 * 12 * 100 * register_width);
        CHECK_EQUAL(kernels.layout.vector_width % register_width, 0);
        CHECK_EQUAL(values[2], 24.0f);
        CHECK(cpu::measure_fma_peak() > 0.0);
    });
}

}  // namespace
}  // namespace mnv2::test
