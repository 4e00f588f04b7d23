// Element types of stored tensors, and the two 16-bit floats.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace vl2 {

enum class DType : uint8_t { kBool, kU8, kI8, kI16, kU16, kI32, kU32, kI64, kU64, kF16, kBF16, kF32, kF64 };

size_t dtype_size(DType dtype);            // bytes per element
std::string_view dtype_name(DType dtype);  // safetensors spelling: "BF16"
constexpr bool is_float(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32 || dtype == DType::kF64;
}
std::optional<DType> parse_dtype(std::string_view safetensors_name);

// bfloat16: the upper half of a float32.
struct BF16 {
  uint16_t bits;
};

inline float to_float(BF16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

// Rounds to nearest, ties to even; a NaN stays a NaN.
inline BF16 to_bf16(float x) {
  uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return {static_cast<uint16_t>(bits >> 16)};
}

// IEEE half precision (stored F16 tensors only; nothing computes in it).
float half_to_float(uint16_t bits);
uint16_t float_to_half(float x);  // to nearest, ties to even; beyond 65504 infinity; a NaN stays a NaN

}  // namespace vl2
