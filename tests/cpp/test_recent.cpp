// What is kept, and what leaves.
#include <memory>
#include <stdexcept>

#include "check.h"
#include "core/recent.h"

namespace mnv2::test {
namespace {

// Finds numbers, and counts those that had to be made.
class Numbers {
public:
    explicit Numbers(size_t most) : recent_(most) {}

    std::shared_ptr<const int> find(int number)
    {
        return recent_.find([&](int kept) { return kept == number; }, [&] { return ++made_, number; });
    }
    int made() const { return made_; }

private:
    Recent<int> recent_;
    int made_ = 0;
};

TEST(a_value_is_made_once)
{
    Numbers numbers(3);
    for (int round = 0; round < 3; ++round)
        for (int number = 0; number < 3; ++number) CHECK_EQUAL(*numbers.find(number), number);
    CHECK_EQUAL(numbers.made(), 3);
}

TEST(what_was_used_last_stays)
{
    Numbers numbers(2);
    for (int passing = 1; passing < 9; ++passing) {
        numbers.find(0);
        numbers.find(passing);
    }
    CHECK_EQUAL(numbers.made(), 9);
    numbers.find(7);  // has left for 8
    CHECK_EQUAL(numbers.made(), 10);
    numbers.find(0);  // has left for 7
    CHECK_EQUAL(numbers.made(), 11);
}

TEST(a_value_that_leaves_lives_on_where_it_is_held)
{
    Numbers numbers(1);
    const std::shared_ptr<const int> held = numbers.find(1);
    numbers.find(2);
    CHECK_EQUAL(*held, 1);
    CHECK_EQUAL(held.use_count(), 1);
}

TEST(nothing_is_kept_of_what_cannot_be_made)
{
    Recent<int> recent(2);
    bool refused = false;
    try {
        recent.find([](int) { return true; }, []() -> int { throw std::runtime_error("no"); });
    } catch (const std::runtime_error&) {
        refused = true;
    }
    CHECK(refused);
    CHECK_EQUAL(*recent.find([](int) { return true; }, [] { return 5; }), 5);
}

}  // namespace
}  // namespace mnv2::test
