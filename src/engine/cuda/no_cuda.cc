// Instead of the CUDA backend, where the toolkit was not found when this was built.
#include "engine/cuda/cuda_ops.h"

namespace vl2 {
namespace {

[[noreturn]] void no_cuda() {
  fail(ErrorCode::kUnsupported,
       "this vl2 was built without CUDA. Install the CUDA toolkit (12.4 or newer: nvcc, cudart, cublasLt), configure "
       "again with -DVL2_CUDA=ON and build.");
}

}  // namespace

int cuda_devices() { return 0; }
bool cuda_is_usable(int) { return false; }
std::unique_ptr<Ops> make_cuda_ops(const CudaOptions&) { no_cuda(); }
std::unique_ptr<LimitMeter> make_cuda_limit_meter(const CudaOptions&) { no_cuda(); }
int64_t cuda_free_memory(int) { no_cuda(); }

}  // namespace vl2
