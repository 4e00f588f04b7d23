#include "core/image/normalize.h"

#include <array>
#include <cstddef>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr std::array<float, 256> kNormalized = [] {
  std::array<float, 256> table{};
  for (int v = 0; v < 256; ++v) table[static_cast<size_t>(v)] = (static_cast<float>(v) / 255.0f - 0.5f) / 0.5f;
  return table;
}();

}  // namespace

void normalize(std::span<const uint8_t> hwc, int64_t size, float* chw) {
  VL2_CHECK(size > 0 && size <= 65536 && hwc.size() == static_cast<size_t>(size * size * 3),
            "tile of {} bytes, side {}", hwc.size(), size);
  const size_t plane = static_cast<size_t>(size * size);
  for (size_t i = 0; i < plane; ++i)
    for (size_t c = 0; c < 3; ++c) chw[c * plane + i] = kNormalized[hwc[i * 3 + c]];
}

}  // namespace vl2
