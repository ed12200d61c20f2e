// A block's input rows as the expand and the shortcut read them, blocked. Images that are blocked already are read in place.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/generic/rows-inl.h"
#include "cpu/kernels.h"
#include "cpu/range.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

class InputRows {
public:
    explicit InputRows(const BlockTask& task)
        : x_(task.x),
          channels_(task.params->in_channels),
          width_(task.params->width),
          row_elements_(width_ * lanes),
          plane_(x_.blocked ? x_.stride_vector : task.plan->expanded_rows * row_elements_),
          keeps_rows_(task.params->has_residual || !task.plan->cuts.shares_rows),
          copies_(reinterpret_cast<Stored*>(task.scratch + task.plan->scratch.x_rows))
    {
    }

    // Makes the needed rows readable. Those before row `fresh` have been loaded for the strip before.
    void load(const Range& needed, int64_t fresh)
    {
        if (x_.blocked) return;
        const int64_t begin = keeps_rows_ ? needed.begin : fresh;
        move_to_front({begin, fresh});
        first_ = begin;
        for (int64_t row = fresh; row < needed.end; ++row)
            load_row(x_, channels_, width_, row, BlockedRow<Stored>{copies_ + (row - first_) * row_elements_, plane_});
    }

    // The first vector of channels at row `row`.
    const Stored* row(int64_t row) const
    {
        if (x_.blocked) return static_cast<const Stored*>(x_.data) + row * row_elements_;
        return copies_ + (row - first_) * row_elements_;
    }

    // Elements from a vector of channels to the next.
    int64_t plane() const { return plane_; }

private:
    void move_to_front(const Range& rows)
    {
        if (rows.begin == first_ || rows.count() <= 0) return;
        for (int64_t vector = 0; vector < vectors_of(channels_); ++vector)
            std::memmove(copies_ + vector * plane_, row(rows.begin) + vector * plane_,
                         static_cast<size_t>(rows.count() * row_elements_) * sizeof(Stored));
    }

    const ImageView& x_;
    int64_t channels_, width_, row_elements_, plane_;
    bool keeps_rows_;  // whether a strip reads rows of the strip before again
    Stored* copies_;
    int64_t first_ = 0;  // the row that stands first in copies_
};

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
