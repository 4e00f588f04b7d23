#include "core/quant/panel_format.h"

#include <gtest/gtest.h>

#include <algorithm>
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

// Of one group with one scale; `importance` weighs the squares.
double weighted_error(const std::vector<float>& w, const std::vector<float>& importance,
                      const std::vector<float>& decoded) {
  double error = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double d = double{decoded[i]} - double{w[i]};
    error += double{importance[i]} * d * d;
  }
  return error;
}

std::vector<float> through_q4(const std::vector<float>& w, const float* importance) {
  const auto n = static_cast<int64_t>(w.size());
  std::vector<std::byte> bytes(static_cast<size_t>(matrix_bytes(PanelFormat::kQ4, 1, n)));
  encode_panel(PanelFormat::kQ4, w.data(), n, 1, n, importance, bytes.data());
  std::vector<float> decoded(w.size());
  decode_row({PanelFormat::kQ4, 1, n, bytes.data()}, 0, decoded.data());
  return decoded;
}

TEST(PanelFormat, TheSearchComesCloseToTheBestScaleThereIs) {
  Random random(5);
  double found = 0, least = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<float> w(128), importance(128), codes(128);
    for (float& x : w) x = random.normal() * random.normal();
    for (float& x : importance) x = random.normal() * random.normal() + 2;
    for (float& x : importance) x = std::fabs(x);
    float extreme = 0;
    for (const float x : w) extreme = std::max(extreme, std::fabs(x));
    double best = INFINITY;
    for (int step = -3000; step <= 3000; ++step) {  // every scale that could be meant, in steps of a thousandth
      const float scale = extreme * static_cast<float>(step) / 12000.0f;
      if (step == 0) continue;
      for (size_t i = 0; i < w.size(); ++i) codes[i] = scale * std::clamp(std::nearbyint(w[i] / scale), -8.0f, 7.0f);
      best = std::min(best, weighted_error(w, importance, codes));
    }
    least += best;
    found += weighted_error(w, importance, through_q4(w, importance.data()));
  }
  EXPECT_LT(found, least * 1.01);
  EXPECT_GT(found, least * 0.99);
}

TEST(PanelFormat, WhatMattersMoreIsKeptCloser) {
  Random random(6);
  double weighed = 0, plain = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<float> w(128), importance(128, 1e-4f);
    for (float& x : w) x = random.normal();
    for (size_t i = 0; i < 8; ++i) importance[i * 16] = 1;
    weighed += weighted_error(w, importance, through_q4(w, importance.data()));
    plain += weighted_error(w, importance, through_q4(w, nullptr));
  }
  EXPECT_LT(weighed, 0.8 * plain);
}

TEST(PanelFormat, ARowDoesNotDependOnItsNeighbours) {
  Random random(7);
  std::vector<float> w(16 * 300);
  for (float& x : w) x = random.normal();
  std::vector<float> alone(300), among(300);
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4}) {
    std::vector<std::byte> all(static_cast<size_t>(panel_bytes(format, 300))), one(all.size());
    encode_panel(format, w.data(), 300, 16, 300, nullptr, all.data());
    for (int64_t r = 0; r < 16; ++r) {
      encode_panel(format, w.data() + r * 300, 300, 1, 300, nullptr, one.data());
      decode_row({format, 16, 300, all.data()}, r, among.data());
      decode_row({format, 1, 300, one.data()}, 0, alone.data());
      EXPECT_EQ(alone, among) << r;
    }
  }
}

TEST(PanelFormat, AGroupWithAValueThatIsNoNumberDecodesToNone) {
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4}) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> w(256, 0.5f), row(256);
      w[130] = bad;
      std::vector<std::byte> bytes(static_cast<size_t>(matrix_bytes(format, 1, 256)));
      encode_panel(format, w.data(), 256, 1, 256, nullptr, bytes.data());
      decode_row({format, 1, 256, bytes.data()}, 0, row.data());
      EXPECT_NEAR(row[127], 0.5f, 0.01f);
      EXPECT_FALSE(std::isfinite(row[130]));
    }
  }
}

TEST(PanelFormat, TheLargestAndSmallestValuesStayInRange) {
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4}) {
    for (const float size : {3e38f, 1e-20f, 1e-40f}) {
      std::vector<float> w(128), row(128);
      for (size_t i = 0; i < w.size(); ++i) w[i] = size * (static_cast<float>(i) / 64 - 1);
      std::vector<std::byte> bytes(static_cast<size_t>(matrix_bytes(format, 1, 128)));
      encode_panel(format, w.data(), 128, 1, 128, nullptr, bytes.data());
      decode_row({format, 1, 128, bytes.data()}, 0, row.data());
      for (size_t i = 0; i < w.size(); ++i)
        EXPECT_NEAR(row[i], size < 1e-30f ? 0.0f : w[i], std::max(size, 1e-38f) * 0.1f) << size << " " << i;
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
