#include "core/quant/panel_format.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"bf16", "q8", "q4"};

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t depth(PanelFormat format, int64_t cols) {
  return round_up(cols, format == PanelFormat::kBf16 ? kBf16Depth : kQuantDepth);
}

// Where the code of (row of the panel, k) stands after the scales.
struct Place {
  int64_t byte;
  int shift;  // of a nibble
};
Place place(PanelFormat format, int64_t row, int64_t k) {
  if (format == PanelFormat::kQ8) return {k / 4 * 64 + row * 4 + k % 4, 0};
  return {k / 8 * 64 + row * 4 + k % 4, k % 8 < 4 ? 0 : 4};
}

float bf16_round(float x) { return to_float(to_bf16(x)); }

float weighted_error(const float* w, const float* importance, int64_t n, float scale, int low, int high) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  float error = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float q = std::clamp(std::nearbyint(w[i] * inverse), static_cast<float>(low), static_cast<float>(high));
    const float d = w[i] - scale * q;
    error += (importance != nullptr ? importance[i] : 1.0f) * d * d;
  }
  return error;
}

// The scale of one group, a bfloat16 value.
float search_scale(PanelFormat format, const float* w, const float* importance, int64_t n) {
  float extreme = 0;  // with its sign
  for (int64_t i = 0; i < n; ++i)
    if (std::fabs(w[i]) > std::fabs(extreme)) extreme = w[i];
  if (extreme == 0) return 0;
  if (format == PanelFormat::kQ8) return bf16_round(std::fabs(extreme) / 127);
  // -8 has no partner: either sign of the scale may give it to the larger side. Clipping the extreme a little often
  // costs less than a coarser grid for all others.
  constexpr int kSteps = 24;
  float best = 0, least = INFINITY;
  for (const float sign : {-1.0f, 1.0f}) {
    for (int step = 0; step < kSteps; ++step) {
      const float levels = 5.5f + 0.125f * static_cast<float>(step);
      const float scale = bf16_round(sign * extreme / levels);
      const float error = weighted_error(w, importance, n, scale, -8, 7);
      if (error < least) {
        least = error;
        best = scale;
      }
    }
  }
  return best;
}

}  // namespace

std::string_view panel_format_name(PanelFormat format) { return kNames[static_cast<size_t>(format)]; }

std::optional<PanelFormat> parse_panel_format(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<PanelFormat>(i);
  return std::nullopt;
}

int64_t quant_groups(int64_t cols) { return (cols + kQuantGroup - 1) / kQuantGroup; }

int64_t quant_scale_bytes(int64_t cols) { return round_up(quant_groups(cols) * kPanelRows * 2, 64); }

int64_t panel_bytes(PanelFormat format, int64_t cols) {
  const int64_t values = kPanelRows * depth(format, cols);
  switch (format) {
    case PanelFormat::kBf16:
      return values * 2;
    case PanelFormat::kQ8:
      return quant_scale_bytes(cols) + values;
    case PanelFormat::kQ4:
      return quant_scale_bytes(cols) + values / 2;
  }
  fail(ErrorCode::kInternal, "no such panel format");
}

int64_t matrix_bytes(PanelFormat format, int64_t rows, int64_t cols) {
  return (rows + kPanelRows - 1) / kPanelRows * panel_bytes(format, cols);
}

void encode_panel(PanelFormat format, const float* rows, int64_t stride, int64_t count, int64_t cols,
                  const float* importance, std::byte* out) {
  VL2_CHECK(count > 0 && count <= kPanelRows && cols > 0);
  std::memset(out, 0, static_cast<size_t>(panel_bytes(format, cols)));
  if (format == PanelFormat::kBf16) {
    auto* values = reinterpret_cast<BF16*>(out);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t k = 0; k < cols; ++k) values[k / 2 * 2 * kPanelRows + r * 2 + k % 2] = to_bf16(rows[r * stride + k]);
    return;
  }
  auto* scales = reinterpret_cast<BF16*>(out);
  auto* codes = reinterpret_cast<uint8_t*>(out) + quant_scale_bytes(cols);
  const bool eight = format == PanelFormat::kQ8;
  const int low = eight ? -127 : -8, high = eight ? 127 : 7, zero = eight ? 128 : 8;
  std::memset(codes, eight ? zero : zero | zero << 4,
              static_cast<size_t>(panel_bytes(format, cols)) - static_cast<size_t>(quant_scale_bytes(cols)));
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t begin = 0; begin < cols; begin += kQuantGroup) {
      const int64_t n = std::min(kQuantGroup, cols - begin);
      const float* w = rows + r * stride + begin;
      const float scale = search_scale(format, w, importance != nullptr ? importance + begin : nullptr, n);
      scales[begin / kQuantGroup * kPanelRows + r] = to_bf16(scale);
      const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
      for (int64_t i = 0; i < n; ++i) {
        const int q = std::clamp(static_cast<int>(std::nearbyint(w[i] * inverse)), low, high) + zero;
        const Place p = place(format, r, begin + i);
        uint8_t& code = codes[p.byte];
        code = static_cast<uint8_t>(eight ? q : (code & (0xf0 >> p.shift)) | q << p.shift);
      }
    }
  }
}

void decode_row(const PanelMatrix& matrix, int64_t row, float* out) {
  VL2_CHECK(row >= 0 && row < matrix.rows);
  const std::byte* panel = matrix.data + row / kPanelRows * panel_bytes(matrix.format, matrix.cols);
  const int64_t r = row % kPanelRows;
  if (matrix.format == PanelFormat::kBf16) {
    const auto* values = reinterpret_cast<const BF16*>(panel);
    for (int64_t k = 0; k < matrix.cols; ++k) out[k] = to_float(values[k / 2 * 2 * kPanelRows + r * 2 + k % 2]);
    return;
  }
  const auto* scales = reinterpret_cast<const BF16*>(panel);
  const auto* codes = reinterpret_cast<const uint8_t*>(panel) + quant_scale_bytes(matrix.cols);
  const bool eight = matrix.format == PanelFormat::kQ8;
  for (int64_t k = 0; k < matrix.cols; ++k) {
    const Place p = place(matrix.format, r, k);
    const int q = eight ? codes[p.byte] - 128 : (codes[p.byte] >> p.shift & 15) - 8;
    out[k] = to_float(scales[k / kQuantGroup * kPanelRows + r]) * static_cast<float>(q);
  }
}

}  // namespace vl2
