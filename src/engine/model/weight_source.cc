#include "engine/model/weight_source.h"

#include <algorithm>
#include <cmath>

#include "core/base/random.h"

namespace vl2 {

TensorView CheckpointSource::get(const std::string& name, const Shape& shape) {
  const TensorView& tensor = checkpoint_.at(name);
  if (tensor.shape != shape)
    fail(ErrorCode::kCorrupt, "{}: tensor {} has shape {}, but config.json asks for {}", checkpoint_.folder().string(),
         name, shape_string(tensor.shape), shape_string(shape));
  if (!is_float(tensor.dtype))
    fail(ErrorCode::kCorrupt, "{}: tensor {} is {}, expected BF16, F16, F32 or F64", checkpoint_.folder().string(),
         name, dtype_name(tensor.dtype));
  return tensor;
}

TensorView RandomSource::get(const std::string& name, const Shape& shape) {
  constexpr size_t kPool = size_t{1} << 20;
  if (pool_.empty()) {
    Random random(seed_);
    pool_.resize(kPool);
    for (BF16& value : pool_) value = to_bf16(random.symmetric(std::sqrt(3.0f)));  // variance 1
  }
  // Matrices keep the size of what they multiply; vectors stand near 1 (norms) or near 0 (biases).
  const bool norm = name.find("norm") != name.npos && name.ends_with("weight");
  const int64_t fan_in = shape.size() < 2 ? 1 : num_elements(shape) / shape[0];
  const float scale = shape.size() < 2 ? 0.1f : 1.0f / std::sqrt(static_cast<float>(fan_in));
  buffer_.resize(static_cast<size_t>(num_elements(shape)));
  size_t at = splitmix64(seed_ ^ fnv1a64(name)) % kPool;
  for (BF16& value : buffer_) {
    value = to_bf16((norm ? 1.0f : 0.0f) + scale * to_float(pool_[at]));
    at = (at + 1) % kPool;
  }
  return {reinterpret_cast<const std::byte*>(buffer_.data()), DType::kBF16, shape};
}

}  // namespace vl2
