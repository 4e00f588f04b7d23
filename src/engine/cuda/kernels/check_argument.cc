#include "engine/cuda/kernels/check_argument.h"

#include "core/base/error.h"

namespace vl2::cuda {

void check_argument(bool holds, const char* launcher, const char* what) {
  if (!holds) fail(ErrorCode::kInternal, "[{}] arguments do not meet: {}", launcher, what);
}

}  // namespace vl2::cuda
