// The order in which a device works; the only CUDA type that headers of this layer know.
#pragma once

struct CUstream_st;

namespace vl2::cuda {

using Stream = CUstream_st*;  // nullptr: the default one; the software device ignores it

}  // namespace vl2::cuda
