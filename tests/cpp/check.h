// A test program in one header: TEST(name) { CHECK(...); } and the program's main(), which runs every test, or only those
// whose names contain an argument.
#pragma once

#include <signal.h>

#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace mnv2::test {

struct Test {
    const char* name;
    void (*body)();
};

struct Progress {
    std::vector<Test> tests;
    std::vector<std::string> context;  // what is being checked, outermost first
    long checks = 0, failures = 0;
};

inline Progress progress;

struct Register {
    Register(const char* name, void (*body)()) { progress.tests.push_back({name, body}); }
};

template <class... Parts>
std::string join(const Parts&... parts)
{
    std::ostringstream text;
    (text << ... << parts);
    return text.str();
}

// Names what the enclosing braces check; failures and crashes print it.
class Scope {
public:
    template <class... Parts>
    explicit Scope(const Parts&... parts)
    {
        progress.context.push_back(join(parts...));
    }
    ~Scope()
    {
        if (std::uncaught_exceptions() > 0) std::printf("    in %s\n", progress.context.back().c_str());
        progress.context.pop_back();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
};

inline void print_with_context(const std::string& text)
{
    std::printf("%s\n", text.c_str());
    for (const std::string& outer : progress.context) std::printf("    in %s\n", outer.c_str());
    std::fflush(stdout);
}

inline void fail(const char* file, int line, const std::string& message)
{
    constexpr long most_printed = 20;
    if (++progress.failures <= most_printed) print_with_context(join(file, ":", line, ": ", message));
}

template <class A, class B>
void check_equal(const char* file, int line, const char* what, const A& got, const B& expected)
{
    ++progress.checks;
    if (got == expected) return;
    fail(file, line, join(what, ": expected ", expected, ", got ", got));
}

inline struct sigaction earlier_action;

// A guard page was touched: says where, and leaves the rest to whoever handled the signal before (AddressSanitizer).
inline void report_crash(int signal_number)
{
    print_with_context("access outside of a buffer");
    sigaction(signal_number, &earlier_action, nullptr);
}

inline bool run_test(const Test& test)
{
    progress.checks = progress.failures = 0;
    const Scope scope(test.name);
    try {
        test.body();
    } catch (const std::exception& error) {  // the tests behind it are to run
        ++progress.failures;
        print_with_context(error.what());
    }
    const bool passed = progress.failures == 0 && progress.checks > 0;
    std::printf("%s %s (%ld checks, %ld failures)\n", passed ? "ok  " : "FAIL", test.name, progress.checks, progress.failures);
    std::fflush(stdout);
    return passed;
}

}  // namespace mnv2::test

#define TEST(name)                                              \
    static void name();                                         \
    static const mnv2::test::Register name##_test(#name, name); \
    static void name()

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        ++mnv2::test::progress.checks;                                                   \
        if (!(condition)) mnv2::test::fail(__FILE__, __LINE__, "CHECK(" #condition ")"); \
    } while (false)

#define CHECK_EQUAL(got, expected) mnv2::test::check_equal(__FILE__, __LINE__, #got, got, expected)

int main(int count, char** arguments)
{
    using namespace mnv2::test;
    struct sigaction action{};
    action.sa_handler = report_crash;
    sigaction(SIGSEGV, &action, &earlier_action);
    bool passed = true;
    int ran = 0;
    for (const Test& test : progress.tests) {
        const bool wanted = count < 2 || std::string_view(test.name).find(arguments[1]) != std::string_view::npos;
        if (!wanted) continue;
        ++ran;
        passed &= run_test(test);
    }
    return passed && ran ? 0 : 1;
}
