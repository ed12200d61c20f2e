// Values that take time to make, kept for whoever brings the same again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace mnv2 {

// Keeps the `most` values that were used last, the last one in front, where a call that repeats finds it first. Inputs that
// pass by once thus push out each other, not what every call needs. Any threads may ask, and a value that leaves lives on
// while a thread holds it.
template <class Value>
class Recent {
public:
    explicit Recent(size_t most) : most_(most) {}

    // The first kept value that serves(value) accepts, else what make() returns. Both may throw. Threads make values side by
    // side, so that two may make the same one; the one that is not found again leaves in time.
    template <class Serves, class Make>
    std::shared_ptr<const Value> find(const Serves& serves, const Make& make)
    {
        if (std::shared_ptr<const Value> kept = find_kept(serves)) return kept;
        auto made = std::make_shared<const Value>(make());
        keep(made);
        return made;
    }

private:
    template <class Serves>
    std::shared_ptr<const Value> find_kept(const Serves& serves)
    {
        const std::lock_guard lock(mutex_);
        const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const auto& value) { return serves(*value); });
        if (found == kept_.end()) return nullptr;
        std::rotate(kept_.begin(), found, found + 1);
        return kept_.front();
    }

    void keep(std::shared_ptr<const Value> made)
    {
        const std::lock_guard lock(mutex_);
        if (kept_.size() < most_) kept_.push_back(nullptr);
        kept_.back() = std::move(made);
        std::rotate(kept_.begin(), kept_.end() - 1, kept_.end());
    }

    const size_t most_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<const Value>> kept_;
};

}  // namespace mnv2
