#include "core/base/dtype.h"

#include <array>
#include <cmath>

namespace vl2 {
namespace {

struct Row {
  DType dtype;
  std::string_view name;
  size_t size;
};

constexpr std::array<Row, 13> kRows = {{{DType::kBool, "BOOL", 1},
                                        {DType::kU8, "U8", 1},
                                        {DType::kI8, "I8", 1},
                                        {DType::kI16, "I16", 2},
                                        {DType::kU16, "U16", 2},
                                        {DType::kI32, "I32", 4},
                                        {DType::kU32, "U32", 4},
                                        {DType::kI64, "I64", 8},
                                        {DType::kU64, "U64", 8},
                                        {DType::kF16, "F16", 2},
                                        {DType::kBF16, "BF16", 2},
                                        {DType::kF32, "F32", 4},
                                        {DType::kF64, "F64", 8}}};

}  // namespace

size_t dtype_size(DType dtype) { return kRows[static_cast<size_t>(dtype)].size; }

std::string_view dtype_name(DType dtype) { return kRows[static_cast<size_t>(dtype)].name; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (const Row& row : kRows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

float half_to_float(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const float mantissa = static_cast<float>(bits & 0x3ff);
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  if (exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  return sign * std::ldexp(mantissa + 1024.0f, exponent - 25);
}

uint16_t float_to_half(float x) {
  constexpr uint32_t kInfinity = 0x7f800000, kTooLarge = 0x477ff000, kSmallestNormal = 0x38800000;  // 65520, 2^-14
  uint32_t bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  uint32_t half = 0;
  if (bits > kInfinity) {
    half = 0x7e00;
  } else if (bits >= kTooLarge) {
    half = 0x7c00;
  } else if (bits < kSmallestNormal) {
    half = static_cast<uint32_t>(std::nearbyint(std::ldexp(std::bit_cast<float>(bits), 24)));
  } else {
    bits += 0xfffu + ((bits >> 13) & 1u);
    half = (bits - (uint32_t{112} << 23)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

}  // namespace vl2
