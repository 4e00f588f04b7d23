#include "core/quant/panel_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/random.h"

namespace vl2 {
namespace {

struct Case {
  PanelFormat format;
  int64_t rows, cols;
  double tolerance;  // root mean square error / root mean square value, of normal values
};

class PanelFormats : public testing::TestWithParam<Case> {};

TEST_P(PanelFormats, DecodeToWhatWasEncodedWithinTheStepOfTheFormat) {
  const Case c = GetParam();
  Random random(static_cast<uint64_t>(c.rows * 100 + c.cols));
  std::vector<float> w(static_cast<size_t>(c.rows * c.cols)), row(static_cast<size_t>(c.cols));
  for (float& x : w) x = random.normal();
  std::vector<std::byte> bytes(static_cast<size_t>(matrix_bytes(c.format, c.rows, c.cols)), std::byte{0xee});
  for (int64_t r = 0; r < c.rows; r += kPanelRows)
    encode_panel(c.format, w.data() + r * c.cols, c.cols, std::min(kPanelRows, c.rows - r), c.cols, nullptr,
                 bytes.data() + r / kPanelRows * panel_bytes(c.format, c.cols));
  const PanelMatrix matrix{c.format, c.rows, c.cols, bytes.data()};
  double error = 0, size = 0;
  for (int64_t r = 0; r < c.rows; ++r) {
    decode_row(matrix, r, row.data());
    for (int64_t k = 0; k < c.cols; ++k) {
      const float x = w[static_cast<size_t>(r * c.cols + k)], d = row[static_cast<size_t>(k)] - x;
      error += d * d;
      size += x * x;
    }
  }
  EXPECT_LT(std::sqrt(error / size), c.tolerance);
  EXPECT_GT(std::sqrt(error / size), c.tolerance / 3);  // the format is the one that was asked for
}

INSTANTIATE_TEST_SUITE_P(Sizes, PanelFormats,
                         testing::Values(Case{PanelFormat::kBf16, 16, 64, 0.0025},
                                         Case{PanelFormat::kBf16, 33, 45, 0.0025},
                                         Case{PanelFormat::kQ8, 16, 128, 0.008}, Case{PanelFormat::kQ8, 40, 588, 0.008},
                                         Case{PanelFormat::kQ8, 5, 70, 0.008}, Case{PanelFormat::kQ4, 16, 256, 0.12},
                                         Case{PanelFormat::kQ4, 40, 588, 0.12}, Case{PanelFormat::kQ4, 5, 70, 0.12}));

TEST(PanelFormat, PaddingDecodesToZero) {
  const std::vector<float> w(70, 1.0f);
  for (const PanelFormat format : {PanelFormat::kBf16, PanelFormat::kQ8, PanelFormat::kQ4}) {
    std::vector<std::byte> bytes(static_cast<size_t>(matrix_bytes(format, 1, 70)));
    encode_panel(format, w.data(), 70, 1, 70, nullptr, bytes.data());
    // The same bytes seen as a matrix as large as the padding.
    const int64_t depth = format == PanelFormat::kBf16 ? 96 : 128;
    const PanelMatrix padded{format, 16, depth, bytes.data()};
    ASSERT_EQ(padded.num_bytes(), static_cast<int64_t>(bytes.size()));
    std::vector<float> row(static_cast<size_t>(depth));
    decode_row(padded, 0, row.data());
    for (int64_t k = 70; k < depth; ++k) EXPECT_EQ(row[static_cast<size_t>(k)], 0.0f);
    decode_row(padded, 7, row.data());
    for (const float x : row) EXPECT_EQ(x, 0.0f);
  }
}

TEST(PanelFormat, ConstantRowsOfZerosAndOnesStayExact) {
  for (const PanelFormat format : {PanelFormat::kBf16, PanelFormat::kQ8, PanelFormat::kQ4}) {
    for (const float value : {0.0f, 1.0f, -0.5f}) {
      const std::vector<float> w(256, value);
      std::vector<std::byte> bytes(static_cast<size_t>(matrix_bytes(format, 1, 256)));
      encode_panel(format, w.data(), 256, 1, 256, nullptr, bytes.data());
      std::vector<float> row(256);
      decode_row({format, 1, 256, bytes.data()}, 0, row.data());
      for (const float x : row) EXPECT_NEAR(x, value, std::fabs(value) * 0.004f);
    }
  }
}

TEST(PanelFormat, NamesAreReadBack) {
  for (const PanelFormat format : {PanelFormat::kBf16, PanelFormat::kQ8, PanelFormat::kQ4})
    EXPECT_EQ(parse_panel_format(panel_format_name(format)), format);
  EXPECT_EQ(parse_panel_format("q5"), std::nullopt);
}

}  // namespace
}  // namespace vl2
