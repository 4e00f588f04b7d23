// The stream that kernels are launched on, named without the headers of CUDA: there cudaStream_t is this pointer.
#pragma once

struct CUstream_st;

namespace vl2::cuda {

using Stream = CUstream_st*;

}  // namespace vl2::cuda
