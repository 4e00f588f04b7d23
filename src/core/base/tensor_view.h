// A read-only, row-major, contiguous stored tensor somebody else owns (usually a mapped file).
// Valid only as long as its owner; copies of the view are free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/error.h"

namespace vl2 {

using Shape = std::vector<int64_t>;

inline int64_t num_elements(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

std::string shape_string(const Shape& shape);  // "[3, 384, 384]"

struct TensorView {
  const std::byte* data = nullptr;  // may be unaligned in hostile files; the reader guarantees alignment or copies
  DType dtype = DType::kF32;
  Shape shape;

  int64_t size() const { return num_elements(shape); }
  size_t num_bytes() const { return static_cast<size_t>(size()) * dtype_size(dtype); }

  template <typename T>
  const T* as() const {
    VL2_CHECK(sizeof(T) == dtype_size(dtype), "tensor of {} read with the wrong element size", dtype_name(dtype));
    return reinterpret_cast<const T*>(data);
  }
};

// Any float type (BF16, F16, F32, F64) widened or rounded to float; throws kUnsupported for integers.
std::vector<float> to_floats(const TensorView& tensor);
void to_floats(const TensorView& tensor, int64_t begin, int64_t count, float* out);

}  // namespace vl2
