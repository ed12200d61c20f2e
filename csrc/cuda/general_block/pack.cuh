// Packs the weights of general_block.
#pragma once

#include <cstdint>

#include "cuda/common/pack_words.cuh"
#include "cuda/general_block/cut.h"

namespace mnv2::cuda {

// The packed weights of general_block, word by word.
struct GeneralBlockWords : BlockWeights {
    int64_t constants_words, chunk_words, expand_words, depthwise_words;

    GeneralBlockWords(const InvertedResidualParams& params, const BlockWeights& block)
        : BlockWeights(block),
          constants_words(constants_floats(params)),
          chunk_words(chunk_floats(params)),
          expand_words(expand_floats(static_cast<int>(params.in_channels), params.has_expand)),
          depthwise_words(int64_t{depthwise_rows_of(params.kernel)} * chunk_channels)
    {
    }

    __device__ uint32_t operator()(int64_t i) const { return ptx::float_word(value(i)); }

private:
    __device__ float value(int64_t i) const
    {
        const int64_t columns = constants_words / constant_rows;
        if (i < constants_words) return project.row(i / columns, i % columns);
        const int64_t first = (i - constants_words) / chunk_words * chunk_channels, at = (i - constants_words) % chunk_words;
        const int64_t row = at / chunk_channels, channel = first + at % chunk_channels;
        if (at < expand_words) return expand.row(row, channel);
        const int64_t depthwise_row = row - expand_words / chunk_channels;
        if (at < expand_words + depthwise_words)
            return depthwise_row < depthwise.depth ? depthwise.weight(channel, depthwise_row)
                                                   : depthwise.row(depthwise_row - depthwise.depth, channel);
        const int64_t place = at - expand_words - depthwise_words;
        return project.weight(place % columns, first + place / columns);
    }
};

}  // namespace mnv2::cuda
