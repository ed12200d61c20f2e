// The head: a 1x1 convolution, its activation and the mean over all pixels. A panel's results live in scratch just long
// enough to be summed, so the wide tensor is never stored.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/generic/rows-inl.h"
#include "cpu/kernels.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

// Pixels that are summed in float32, before float64 takes their sum: sums of large images would lose digits.
constexpr int64_t summed_pixels = 32;

// The sum of up to summed_pixels pixels, in chains that do not wait for one another.
template <class T>
MNV2_INLINE Vec sum_pixels(const T* from, int64_t pixels)
{
    constexpr int chains = 4;
    Vec sums[chains];
    MNV2_UNROLL
    for (int i = 0; i < chains; ++i) sums[i] = splat(0.0f);
    int64_t pixel = 0;
    for (; pixel + chains <= pixels; pixel += chains) MNV2_UNROLL
    for (int i = 0; i < chains; ++i) sums[i] = add(sums[i], widen(from + (pixel + i) * lanes));
    for (; pixel < pixels; ++pixel) sums[0] = add(sums[0], widen(from + pixel * lanes));
    return add(add(sums[0], sums[1]), add(sums[2], sums[3]));
}

// sums += the pixels of each vector of a panel's blocked results.
template <class T>
void add_pixels(const T* panel, int64_t pixels, int64_t vectors, double* sums)
{
    alignas(64) float sum[lanes];
    for (int64_t v = 0; v < vectors; ++v, sums += lanes)
        for (int64_t pixel = 0; pixel < pixels; pixel += summed_pixels) {
            store(sum, sum_pixels(panel + (v * pixels + pixel) * lanes, smaller(pixels - pixel, summed_pixels)));
            for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(sum[lane]);
        }
}

class HeadPoolSegment {
public:
    explicit HeadPoolSegment(const HeadPoolTask& task)
        : task_(task),
          params_(*task.params),
          x_rows_(reinterpret_cast<Stored*>(task.scratch + task.plan->x_rows)),
          panel_(task.scratch + task.plan->panel),
          sums_(reinterpret_cast<double*>(task.scratch + task.plan->sums)),
          means_(task.scratch + task.plan->means)
    {
    }

    void run()
    {
        const int64_t pixels = params_.height * params_.width, strip = task_.plan->strip_pixels;
        const int64_t channels = task_.channel_end - task_.channel_begin;
        std::memset(sums_, 0, static_cast<size_t>(vectors_of(channels) * lanes) * sizeof(double));
        for (int64_t begin = 0; begin < pixels; begin += strip) {
            const int64_t count = smaller(strip, pixels - begin);
            add_strip(take_pixels(begin, count), count);
        }
        for (int64_t i = 0; i < vectors_of(channels) * lanes; ++i)
            means_[i] = static_cast<float>(sums_[i] / static_cast<double>(pixels));
        store_means(channels);
    }

private:
    int64_t plane() const { return task_.x.blocked ? task_.x.stride_vector : task_.plan->strip_pixels * lanes; }

    // Blocked pixels of a strip.
    const Stored* take_pixels(int64_t begin, int64_t count)
    {
        if (task_.x.blocked) return static_cast<const Stored*>(task_.x.data) + begin * lanes;
        load_pixels(begin, count);
        return x_rows_;
    }

    // Consecutive pixels may span several rows of the image.
    void load_pixels(int64_t begin, int64_t count)
    {
        for (int64_t done = 0; done < count;) {
            const int64_t row = (begin + done) / params_.width, column = (begin + done) % params_.width;
            const int64_t in_row = smaller(params_.width - column, count - done);
            const ImageView from = view_from(column);
            load_row(from, params_.in_channels, in_row, row, BlockedRow<Stored>{x_rows_ + done * lanes, plane()});
            done += in_row;
        }
    }

    ImageView view_from(int64_t column) const
    {
        ImageView view = task_.x;
        view.data = static_cast<const char*>(view.data) + column * view.stride_w * scalar_bytes(view.dtype);
        return view;
    }

    void add_strip(const Stored* x, int64_t pixels)
    {
        const PointwiseLayer layer{params_.in_channels, plane(), blocked_epilogue(params_.activation, pixels * lanes)};
        for (int64_t first = task_.channel_begin; first < task_.channel_end; first += panel_width) {
            const int64_t channels = smaller(panel_width, task_.channel_end - first);
            pointwise(layer, first, first + channels, pixels, x, task_.packed, panel_, nullptr);
            add_pixels(panel_, pixels, vectors_of(channels), sums_ + first - task_.channel_begin);
        }
    }

    void store_means(int64_t channels)
    {
        const ResultView& y = task_.y;
        if (!y.blocked) return store_values(means_, channels, y.dtype, y.data, task_.channel_begin);
        round_values(means_, vectors_of(channels) * lanes, y.dtype);
        auto* to = static_cast<Stored*>(y.data) + task_.channel_begin / lanes * y.stride_vector;
        store_blocked(means_, lanes, 1, channels, to, y.stride_vector);
    }

    const HeadPoolTask& task_;
    const HeadPoolParams& params_;
    Stored* x_rows_;
    float* panel_;
    double* sums_;
    float* means_;
};

void head_pool(const HeadPoolTask& task)
{
    HeadPoolSegment(task).run();
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
