#include "core/base/tensor_view.h"

namespace vl2 {

std::string shape_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void to_floats(const TensorView& tensor, int64_t begin, int64_t count, float* out) {
  VL2_CHECK(begin >= 0 && count >= 0 && begin + count <= tensor.size());
  switch (tensor.dtype) {
    case DType::kF32: {
      const float* in = tensor.as<float>() + begin;
      for (int64_t i = 0; i < count; ++i) out[i] = in[i];
      return;
    }
    case DType::kBF16: {
      const BF16* in = tensor.as<BF16>() + begin;
      for (int64_t i = 0; i < count; ++i) out[i] = to_float(in[i]);
      return;
    }
    case DType::kF16: {
      const uint16_t* in = tensor.as<uint16_t>() + begin;
      for (int64_t i = 0; i < count; ++i) out[i] = half_to_float(in[i]);
      return;
    }
    case DType::kF64: {
      const double* in = tensor.as<double>() + begin;
      for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]);
      return;
    }
    default:
      fail(ErrorCode::kUnsupported, "a tensor of type {} is used where floats are needed (BF16, F16, F32 or F64)",
           dtype_name(tensor.dtype));
  }
}

std::vector<float> to_floats(const TensorView& tensor) {
  std::vector<float> out(static_cast<size_t>(tensor.size()));
  to_floats(tensor, 0, tensor.size(), out.data());
  return out;
}

}  // namespace vl2
