// Pixels to the vision encoder's input: (v / 255 - 0.5) / 0.5 in float32, planes instead of interleaved
// (spec/model.md 2.6).
#pragma once

#include <cstdint>
#include <span>

namespace vl2 {

// One square tile [size][size][3] -> chw [3][size][size]. Bit-exact with torchvision's ToTensor and Normalize. Any
// thread.
void normalize(std::span<const uint8_t> hwc, int64_t size, float* chw);

}  // namespace vl2
