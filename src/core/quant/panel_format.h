// Stored forms of a matrix W [rows, cols] that the kernels read where they lie: the one table of what they are and how
// many bytes they take. Byte for byte: docs/quantized_format.md.
//
// A matrix is a list of panels of 16 rows (output columns of y = W x); rows beyond the last are zeros. Codes of four
// neighbours along k stand together, so that one 64-byte vector is [16 rows][4 k] and a 64-deep piece of a q8 panel is
// one AMX tile.
//
//   bf16  [K' / 2][16][2] bfloat16, K' = cols rounded up to 32
//   q8    scales, then [K' / 4][16][4] bytes q + 128, q in -127..127, K' = cols rounded up to 64
//   q4    scales, then [K' / 8][16][4] bytes: low nibble k = 8 v + i, high nibble k = 8 v + 4 + i of q + 8, q in -8..7
//
// scales: [groups][16] bfloat16, padded with zeros to 64 bytes; a group is 128 values of k. w = scale * q.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace vl2 {

enum class PanelFormat : uint8_t { kBf16, kQ8, kQ4 };

inline constexpr int64_t kPanelRows = 16;    // rows of W in a panel
inline constexpr int64_t kQuantGroup = 128;  // values of k that share a scale
inline constexpr int64_t kQuantDepth = 64;   // k of q8 and q4 is rounded up to this
inline constexpr int64_t kBf16Depth = 32;    // k of bf16 is rounded up to this

std::string_view panel_format_name(PanelFormat format);  // "bf16", "q8", "q4"
std::optional<PanelFormat> parse_panel_format(std::string_view name);

int64_t quant_groups(int64_t cols);       // scales of a row
int64_t quant_scale_bytes(int64_t cols);  // of a panel's scales, a multiple of 64
int64_t panel_bytes(PanelFormat format, int64_t cols);
int64_t matrix_bytes(PanelFormat format, int64_t rows, int64_t cols);

// A view of a stored matrix; data is 64-byte aligned and somebody else's.
struct PanelMatrix {
  PanelFormat format = PanelFormat::kBf16;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;

  int64_t num_bytes() const { return matrix_bytes(format, rows, cols); }
};

// W_kvb stored as the kernels read it: the first head's matrices; the other heads' follow each without a gap.
struct LatentPanels {
  PanelMatrix uk;             // W_UK [qk_nope, rank]
  PanelMatrix uv;             // W_UV [v, rank]
  PanelMatrix uk_transposed;  // [rank, qk_nope]
  int64_t num_heads = 0;
};

// One panel from `count` <= 16 rows of `cols` floats each, stride apart. importance (optional, [cols], >= 0): how much
// an error at each k weighs when a scale is searched. `out`: panel_bytes(), every byte is written.
void encode_panel(PanelFormat format, const float* rows, int64_t stride, int64_t count, int64_t cols,
                  const float* importance, std::byte* out);

// Row `row` of W as floats: what a stored matrix means.
void decode_row(const PanelMatrix& matrix, int64_t row, float* out);

}  // namespace vl2
