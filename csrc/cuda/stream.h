// The stream that launches go to, without CUDA's headers.
#pragma once

struct CUstream_st;

namespace mnv2::cuda {

using Stream = CUstream_st*;  // cudaStream_t

}  // namespace mnv2::cuda
