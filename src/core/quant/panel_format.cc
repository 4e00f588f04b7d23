#include "core/quant/panel_format.h"

#include <array>

#include "core/base/dtype.h"
#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"bf16", "q8", "q4"};

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t depth(PanelFormat format, int64_t cols) {
  return round_up(cols, format == PanelFormat::kBf16 ? kBf16Depth : kQuantDepth);
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
    const int q = eight ? codes[k / 4 * 64 + r * 4 + k % 4] - 128
                        : (codes[k / 8 * 64 + r * 4 + k % 4] >> (k % 8 < 4 ? 0 : 4) & 15) - 8;
    out[k] = to_float(scales[k / kQuantGroup * kPanelRows + r]) * static_cast<float>(q);
  }
}

}  // namespace vl2
