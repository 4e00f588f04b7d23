// Operations on rows: lookups, norms, activations, RoPE, pictures.
#include <algorithm>
#include <numeric>

#include "conformance/op_test.h"

namespace vl2::conformance {
namespace {

class RowOps : public OpTest {};

// Lengths around every vector width.
constexpr int64_t kWidths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 1152, 2049};
// An elementwise function in float32: a few units in the last place of values around 1.
constexpr double kElement = 2e-6;

TEST_P(RowOps, RmsNorm) {
  for (int64_t width : kWidths) {
    const Stored w(DType::kBF16, {width}, random_, 1.0f);
    Rows x = Rows::random(5, width, random_, 3.0f), y(5, width), expected(5, width);
    ops_->rms_norm(y.tensor(), x.tensor(), ops_->pack(w.view(), WeightUse::kVector), 1e-6f);
    reference_->rms_norm(expected.tensor(), x.tensor(), reference_->pack(w.view(), WeightUse::kVector), 1e-6f);
    expect_near(y, expected, 4 * kElement, fmt::format("width {}", width));
  }
  // Rows without gaps, in place, as models have them; some wider than a block reads at once.
  for (const int64_t width : {4, 128, 132, 1280, 4096, 4100}) {
    const Stored w(DType::kF32, {width}, random_, 1.0f);
    Rows x(3, width, 0), expected(3, width);
    for (int64_t r = 0; r < 3; ++r)
      for (int64_t c = 0; c < width; ++c) x.row(r)[c] = 3.0f * random_.normal();
    reference_->rms_norm(expected.tensor(), x.tensor(), reference_->pack(w.view(), WeightUse::kVector), 1e-6f);
    ops_->rms_norm(x.tensor(), x.tensor(), ops_->pack(w.view(), WeightUse::kVector), 1e-6f);
    expect_near(x, expected, 4 * kElement, fmt::format("width {} in place", width));
  }
}

TEST_P(RowOps, LayerNorm) {
  for (int64_t width : kWidths) {
    if (width == 1) continue;  // the variance of one value is 0: only noise is left
    const Stored w(DType::kF32, {width}, random_, 1.0f), b(DType::kF32, {width}, random_, 1.0f);
    Rows x = Rows::random(5, width, random_, 3.0f), y(5, width), expected(5, width);
    ops_->layer_norm(y.tensor(), x.tensor(), ops_->pack(w.view(), WeightUse::kVector),
                     ops_->pack(b.view(), WeightUse::kVector), 1e-6f);
    reference_->layer_norm(expected.tensor(), x.tensor(), reference_->pack(w.view(), WeightUse::kVector),
                           reference_->pack(b.view(), WeightUse::kVector), 1e-6f);
    expect_near(y, expected, (width == 2 ? 40 : 8) * kElement, fmt::format("width {}", width));
  }
}

TEST_P(RowOps, GeluOfOrdinaryAndExtremeValues) {
  for (GeluKind kind : {GeluKind::kTanh, GeluKind::kErf})
    for (int64_t width : kWidths) {
      Rows x = Rows::random(3, width, random_, 3.0f);
      for (int64_t c = 0; c < width; ++c)
        x.row(2)[c] = (c % 2 ? -1.0f : 1.0f) * std::ldexp(1.0f, static_cast<int>(c % 40) - 20);
      Rows expected = x;
      ops_->gelu(x.tensor(), kind);
      reference_->gelu(expected.tensor(), kind);
      for (int64_t c = 0; c < width; ++c) {
        if (std::abs(expected.row(2)[c]) < 8) continue;
        EXPECT_FLOAT_EQ(x.row(2)[c], expected.row(2)[c]);  // relative where values are large
        x.row(2)[c] = expected.row(2)[c];
      }
      expect_near(x, expected, 3 * kElement, fmt::format("width {}", width));
    }
}

TEST_P(RowOps, SiluMulOfOrdinaryAndExtremeValues) {
  for (int64_t width : kWidths) {
    Rows gate = Rows::random(3, width, random_, 3.0f), up = Rows::random(3, width, random_);
    for (int64_t c = 0; c < width; ++c) gate.row(2)[c] = (c % 2 ? -1.0f : 1.0f) * 200.0f;
    Rows expected = gate;
    ops_->silu_mul(gate.tensor(), up.tensor());
    reference_->silu_mul(expected.tensor(), up.tensor());
    for (int64_t r = 0; r < 3; ++r)
      for (int64_t c = 0; c < width; ++c)
        ASSERT_NEAR(gate.row(r)[c], expected.row(r)[c], 3 * kElement * (1 + std::abs(expected.row(r)[c]))) << width;
  }
}

TEST_P(RowOps, AddAndAddRowsAndFillRow) {
  for (int64_t width : kWidths) {
    Rows x = Rows::random(6, width, random_), y = Rows::random(6, width, random_);
    Rows expected = x;
    const Stored table(DType::kBF16, {3, width}, random_, 1.0f), vector(DType::kBF16, {width}, random_, 1.0f);
    for (auto* side : {ops_.get(), reference_.get()}) {
      Rows& rows = side == ops_.get() ? x : expected;
      side->add(rows.tensor(), y.tensor());
      side->add_rows(rows.tensor(), side->pack(table.view(), WeightUse::kLookup));
      side->fill_row(rows.tensor(), 4, side->pack(vector.view(), WeightUse::kVector));
    }
    expect_near(x, expected, kElement, fmt::format("width {}", width));
  }
}

TEST_P(RowOps, LookupsCopyExactly) {
  const std::vector<int32_t> ids = {4, 0, 6, 6, 1}, places = {3, 0, 4, 2, 1};
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (int64_t width : kWidths) {
      const Stored table(dtype, {7, width}, random_, 1.0f);
      Rows rows(5, width), gathered(5, width), scattered(5, width);
      ops_->embed(rows.tensor(), ops_->pack(table.view(), WeightUse::kLookup), ids);
      ops_->scatter_rows(scattered.tensor(), rows.tensor(), places);
      ops_->gather_rows(gathered.tensor(), scattered.tensor(), places);
      for (int64_t r = 0; r < 5; ++r)
        for (int64_t c = 0; c < width; ++c) {
          const float stored = table.values[static_cast<size_t>(ids[static_cast<size_t>(r)] * width + c)];
          ASSERT_EQ(rows.row(r)[c], stored);
          ASSERT_EQ(scattered.row(places[static_cast<size_t>(r)])[c], stored);
        }
      expect_same_bits(gathered, rows, "gather after scatter");
    }
}

TEST_P(RowOps, RopeInBothLayouts) {
  for (RopeLayout layout : {RopeLayout::kHalfSplit, RopeLayout::kInterleaved})
    for (int64_t size : {2, 6, 14, 16, 62, 64, 128}) {
      const int64_t heads = 3;
      Rows x = Rows::random(9, heads * size, random_), cos(9, size / 2), sin(9, size / 2);
      for (int64_t t = 0; t < 9; ++t)
        for (int64_t k = 0; k < size / 2; ++k) {
          const double angle = 6.3 * random_.uniform();
          cos.row(t)[k] = static_cast<float>(std::cos(angle));
          sin.row(t)[k] = static_cast<float>(std::sin(angle));
        }
      Rows expected = x;
      ops_->rope(x.tensor().split_heads(heads), cos.tensor(), sin.tensor(), layout);
      reference_->rope(expected.tensor().split_heads(heads), cos.tensor(), sin.tensor(), layout);
      expect_near(x, expected, kElement, fmt::format("head size {}", size));
    }
}

TEST_P(RowOps, RopePairIsRopeOfBoth) {
  for (RopeLayout layout : {RopeLayout::kHalfSplit, RopeLayout::kInterleaved})
    for (int64_t size : {2, 14, 64}) {
      Rows x = Rows::random(5, 3 * size, random_), y = Rows::random(5, 2 * size, random_);
      Rows cos = Rows::random(5, size / 2, random_), sin = Rows::random(5, size / 2, random_);
      Rows plain_x = x, plain_y = y;
      ops_->rope_pair(x.tensor().split_heads(3), y.tensor().split_heads(2), cos.tensor(), sin.tensor(), layout);
      ops_->rope(plain_x.tensor().split_heads(3), cos.tensor(), sin.tensor(), layout);
      ops_->rope(plain_y.tensor().split_heads(2), cos.tensor(), sin.tensor(), layout);
      expect_same_bits(x, plain_x, fmt::format("first, head size {}", size));
      expect_same_bits(y, plain_y, fmt::format("second, head size {}", size));
    }
}

TEST_P(RowOps, PixelShufflePadsOddGridsWithZeros) {
  for (int64_t grid : {1, 2, 5, 27})
    for (int64_t ratio : {1, 2, 3}) {
      const int64_t side = (grid + ratio - 1) / ratio, channels = 5;
      Rows x = Rows::random(2 * grid * grid, channels, random_);
      Rows y(2 * side * side, channels * ratio * ratio), expected = y;
      ops_->pixel_shuffle(y.tensor(), x.tensor(), grid, ratio);
      reference_->pixel_shuffle(expected.tensor(), x.tensor(), grid, ratio);
      expect_same_bits(y, expected, fmt::format("grid {} ratio {}", grid, ratio));
    }
}

TEST_P(RowOps, ExtractPatchesDropsTheRest) {
  for (int64_t size : {14, 31, 56}) {
    constexpr int64_t kPatch = 14;
    const int64_t grid = size / kPatch;
    std::vector<float> pixels(static_cast<size_t>(2 * 3 * size * size));
    for (float& p : pixels) p = random_.normal();
    Rows y(2 * grid * grid, 3 * kPatch * kPatch), expected = y;
    ops_->extract_patches(y.tensor(), pixels, size, kPatch);
    reference_->extract_patches(expected.tensor(), pixels, size, kPatch);
    expect_same_bits(y, expected, fmt::format("size {}", size));
  }
}

VL2_FOR_EVERY_BACKEND(RowOps);

}  // namespace
}  // namespace vl2::conformance
