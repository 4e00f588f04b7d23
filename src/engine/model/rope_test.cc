// Angles against the formulas in double, at positions where float32 or bf16 products have long lost them.
#include "engine/model/rope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/model_spec/model_config.h"

namespace vl2 {
namespace {

constexpr int64_t kFar[] = {0, 1, 257, 4095, 100000};

struct Table {
  std::vector<float> cos, sin;
  int64_t half;

  Table(const LanguageConfig& config, int64_t dim, std::span<const int64_t> positions, int64_t length)
      : cos(positions.size() * static_cast<size_t>(dim / 2)), sin(cos.size()), half(dim / 2) {
    const auto rows = static_cast<int64_t>(positions.size());
    RopeAngles(config, dim)
        .fill(positions, length, {cos.data(), rows, 1, half, half, half}, {sin.data(), rows, 1, half, half, half});
  }
  size_t at(size_t row, int64_t k) const { return row * static_cast<size_t>(half) + static_cast<size_t>(k); }
};

double plain_frequency(double theta, int64_t dim, int64_t k) {
  return std::pow(theta, -2.0 * static_cast<double>(k) / static_cast<double>(dim));
}

// Not a tolerance: the float32 nearest to the double.
void expect_rounded(const Table& table, const std::vector<double>& frequencies, double magnitude) {
  for (size_t row = 0; row < std::size(kFar); ++row) {
    for (int64_t k = 0; k < table.half; ++k) {
      const double angle = static_cast<double>(kFar[row]) * frequencies[static_cast<size_t>(k)];
      EXPECT_EQ(table.cos[table.at(row, k)], static_cast<float>(std::cos(angle) * magnitude))
          << "position " << kFar[row] << " pair " << k;
      EXPECT_EQ(table.sin[table.at(row, k)], static_cast<float>(std::sin(angle) * magnitude))
          << "position " << kFar[row] << " pair " << k;
    }
  }
}

TEST(Rope, PlainAnglesAreTheFormulaRoundedOnce) {
  for (const auto& [theta, dim] : {std::pair{10000.0, int64_t{64}}, {10000.0, 128}, {500000.0, 16}}) {
    LanguageConfig config;
    config.rope_theta = theta;
    std::vector<double> frequencies;
    for (int64_t k = 0; k < dim / 2; ++k) frequencies.push_back(plain_frequency(theta, dim, k));
    expect_rounded(Table(config, dim, kFar, 100001), frequencies, 1.0);
  }
}

TEST(Rope, LinearScalingDividesPositions) {
  LanguageConfig config;
  config.rope_scaling = RopeScaling{.type = RopeScalingType::kLinear, .factor = 4.0};
  std::vector<double> frequencies;
  for (int64_t k = 0; k < 16; ++k) frequencies.push_back(plain_frequency(10000.0, 32, k) / 4.0);
  expect_rounded(Table(config, 32, kFar, 100001), frequencies, 1.0);
}

TEST(Rope, YarnKeepsFastPairsDividesSlowOnesAndScales) {
  LanguageConfig config;
  config.rope_scaling = RopeScaling{.type = RopeScalingType::kYarn,
                                    .factor = 40.0,
                                    .original_max_position_embeddings = 4096,
                                    .beta_fast = 32.0,
                                    .beta_slow = 1.0,
                                    .mscale = 1.0,
                                    .mscale_all_dim = 0.5};
  const double g1 = 0.1 * std::log(40.0) + 1.0, g2 = 0.05 * std::log(40.0) + 1.0;
  EXPECT_DOUBLE_EQ(RopeAngles(config, 64).softmax_scale_factor(), g2 * g2);
  // Where 32 rotations and 1 rotation over 4096 positions lie for d = 64: pairs 10.47 and 22.52.
  std::vector<double> frequencies;
  for (int64_t k = 0; k < 32; ++k) {
    const double ramp = std::clamp((static_cast<double>(k) - 10.0) / (23.0 - 10.0), 0.0, 1.0);
    const double f = plain_frequency(10000.0, 64, k);
    frequencies.push_back(f / 40.0 * ramp + f * (1.0 - ramp));
  }
  expect_rounded(Table(config, 64, kFar, 100001), frequencies, g1 / g2);
}

TEST(Rope, DynamicScalingStartsBeyondTheTrainedContext) {
  LanguageConfig config;
  config.max_position_embeddings = 256;
  config.rope_scaling = RopeScaling{.type = RopeScalingType::kDynamic, .factor = 2.0};
  LanguageConfig plain;
  plain.max_position_embeddings = 256;
  const int64_t inside[] = {255};
  EXPECT_EQ(Table(config, 32, inside, 256).cos, Table(plain, 32, inside, 256).cos);
  // Longer: theta grows with the number of keys, for every position.
  const double theta = 10000.0 * std::pow(2.0 * 700.0 / 256.0 - 1.0, 32.0 / 30.0);
  const Table moved(config, 32, inside, 700);
  for (int64_t k = 0; k < 16; ++k)
    EXPECT_EQ(moved.sin[moved.at(0, k)], static_cast<float>(std::sin(255.0 * plain_frequency(theta, 32, k))));
}

}  // namespace
}  // namespace vl2
