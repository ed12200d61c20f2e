// A linear layer: the pointwise microkernel with the vectors of a batch as pixels. Results are blocked where another linear
// layer reads them.
#pragma once

#include <cstdint>

#include "cpu/generic/pointwise/pointwise-inl.h"
#include "cpu/generic/rows-inl.h"
#include "cpu/kernels.h"

namespace mnv2::cpu::MNV2_ISA {
namespace {

class LinearSegment {
public:
    explicit LinearSegment(const LinearTask& task)
        : task_(task),
          params_(*task.params),
          x_rows_(reinterpret_cast<Stored*>(task.scratch + task.plan->x_rows)),
          result_(task.scratch + task.plan->result),
          channels_(task.channel_end - task.channel_begin)
    {
    }

    void run()
    {
        const int64_t strip = task_.plan->strip_vectors;
        for (int64_t begin = 0; begin < params_.batch; begin += strip) {
            const int64_t count = smaller(strip, params_.batch - begin);
            compute(begin, count);
        }
    }

private:
    int64_t plane() const { return task_.x.blocked ? task_.x.stride_vector : task_.plan->strip_vectors * lanes; }

    const Stored* take_vectors(int64_t begin, int64_t count)
    {
        if (task_.x.blocked) return static_cast<const Stored*>(task_.x.data) + begin * lanes;
        for (int64_t i = 0; i < count; ++i)
            load_row(task_.x, params_.in_features, 1, begin + i, BlockedRow<Stored>{x_rows_ + i * lanes, plane()});
        return x_rows_;
    }

    void compute(int64_t begin, int64_t count)
    {
        const ResultView& y = task_.y;
        if (y.blocked) return compute_blocked(begin, count);
        const bool direct = y.dtype == ScalarType::float32;
        const int64_t row = direct ? params_.out_features : channels_;
        const int64_t offset = begin * params_.out_features + task_.channel_begin;
        float* to = direct ? static_cast<float*>(y.data) + offset : result_;
        multiply(begin, count, {clamp_of(params_.activation), row, lanes, false, 0, curve_of(params_.activation)}, to);
        if (direct) return;
        for (int64_t i = 0; i < count; ++i)
            store_values(result_ + i * channels_, channels_, y.dtype, y.data, offset + i * params_.out_features);
    }

    void compute_blocked(int64_t begin, int64_t count)
    {
        const int64_t result_plane = count * lanes;
        multiply(begin, count, blocked_epilogue(params_.activation, result_plane), result_);
        round_values(result_, vectors_of(channels_) * result_plane, task_.y.dtype);
        auto* to = static_cast<Stored*>(task_.y.data) + task_.channel_begin / lanes * task_.y.stride_vector + begin * lanes;
        store_blocked(result_, result_plane, count, channels_, to, task_.y.stride_vector);
    }

    void multiply(int64_t begin, int64_t count, const Epilogue& epilogue, float* to)
    {
        const PointwiseLayer layer{params_.in_features, plane(), epilogue};
        pointwise(layer, task_.channel_begin, task_.channel_end, count, take_vectors(begin, count), task_.packed, to, nullptr);
    }

    const LinearTask& task_;
    const LinearParams& params_;
    Stored* x_rows_;
    float* result_;
    int64_t channels_;
};

void linear(const LinearTask& task)
{
    LinearSegment(task).run();
}

}  // namespace
}  // namespace mnv2::cpu::MNV2_ISA
