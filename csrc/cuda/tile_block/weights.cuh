// A step's weights in shared memory.
#pragma once

#include <cstdint>

#include "cuda/common/ptx.cuh"
#include "cuda/tile_block/region.cuh"

namespace mnv2::cuda {

__device__ __forceinline__ void copy_to_shared(uint8_t* to, const uint8_t* from, int bytes)
{
    for (int at = threadIdx.x * 16; at < bytes; at += blockDim.x * 16) ptx::cp_async16(to + at, from + at);
}

// The chunks' packed weights, one after the other.
__device__ __forceinline__ const uint8_t* packed_chunks(const TileArguments& p, int pairs)
{
    return p.packed + pairs * 16 * sizeof(float);
}

// Weights in shared memory as a chunk's packed ones.
class ChunkWeights {
public:
    __device__ __forceinline__ ChunkWeights(uint8_t* buffer, int depths) : depths_(depths), buffer_(buffer) {}

    __device__ __forceinline__ uint8_t* expand() const { return buffer_; }
    __device__ __forceinline__ const uint8_t* expand_bias() const { return buffer_ + depths_ * chunk_pairs * fragment_bytes; }
    __device__ __forceinline__ const uint8_t* depthwise() const { return buffer_ + expand_bytes(depths_); }

protected:
    int depths_;
    uint8_t* buffer_;
};

// A step's weights, in one of the buffers.
template <class Tile>
class StepWeights : public ChunkWeights {
public:
    __device__ __forceinline__ StepWeights(const TileArguments& p, uint8_t* shared, int step)
        : ChunkWeights(
              shared + p.weights_at + step % Tile::weight_buffers * chunk_bytes(depth_count<Tile>(p), pair_count<Tile>(p)),
              depth_count<Tile>(p)),
          pairs_(pair_count<Tile>(p))
    {
    }

    // Fetches the weights of a step: three chunks' expand, depthwise and project layers.
    __device__ __forceinline__ void fetch(const TileArguments& p, int step) const
    {
        const uint8_t* const chunks = packed_chunks(p, pairs_);
        const auto copy = [&](int chunk, int at, int bytes) {
            if (chunk >= 0 && chunk < p.chunks)
                copy_to_shared(buffer_ + at, chunks + static_cast<int64_t>(chunk) * chunk_bytes(depths_, pairs_) + at, bytes);
        };
        copy(step, 0, expand_bytes(depths_));
        copy(step - 1, expand_bytes(depths_), depthwise_bytes);
        copy(step - Tile::project_lag, expand_bytes(depths_) + depthwise_bytes, project_bytes(pairs_));
        ptx::cp_async_commit();
    }

    __device__ __forceinline__ const uint8_t* project() const { return depthwise() + depthwise_bytes; }

private:
    int pairs_;
};

}  // namespace mnv2::cuda
