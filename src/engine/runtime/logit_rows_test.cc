#include "engine/runtime/logit_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/random.h"

namespace vl2 {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(LogitRows, OnlyWhatIsNoNumberAndPlusInfinityIsUnusable) {
  for (const size_t n : {0, 1, 7, 8, 9, 100}) {
    std::vector<float> x(n, -kInf);
    EXPECT_TRUE(all_usable(x));
    std::fill(x.begin(), x.end(), std::numeric_limits<float>::max());
    EXPECT_TRUE(all_usable(x));
    for (size_t i = 0; i < n; ++i)
      for (const float bad : {kInf, std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> broken = x;
        broken[i] = bad;
        EXPECT_FALSE(all_usable(broken)) << i;
      }
  }
}

TEST(LogitRows, TheLargestIsFoundWhereverItStands) {
  EXPECT_EQ(largest(std::span<const float>()), -kInf);
  for (const size_t n : {1, 5, 8, 16, 21}) {
    for (size_t i = 0; i < n; ++i) {
      std::vector<float> x(n, -3);
      x[i] = -2.5f;
      EXPECT_EQ(largest(x), -2.5);
      const std::vector<double> y(x.begin(), x.end());
      EXPECT_EQ(largest(y), -2.5);
    }
    EXPECT_EQ(largest(std::vector<double>(n, -kInf)), -kInf);
  }
}

TEST(LogitRows, SumsAreSums) {
  for (const int n : {0, 1, 7, 8, 1000}) {
    std::vector<double> x;
    for (int i = 1; i <= n; ++i) x.push_back(i);
    EXPECT_EQ(sum(x), n * (n + 1) / 2);
  }
}

TEST(LogitRows, ExponentialsAreRightToTheLastBitOrTwo) {
  std::vector<double> x = {0, -0.0, -1e-300, -5e-324, -1e-17, -std::log(2.0) / 2, -std::log(2.0), -1, -700, -708};
  Random random(1);
  for (int i = 0; i < 20000; ++i) x.push_back(-random.uniform());
  for (int i = 0; i < 20000; ++i) x.push_back(-708 * random.uniform());
  std::vector<double> e = x;
  exp_row(e);
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = static_cast<double>(std::exp(static_cast<long double>(x[i])));
    ASSERT_NEAR(e[i], expected, std::ldexp(expected, -51)) << x[i];
  }
  std::vector<double> none = {-708.01, -1e10, -std::numeric_limits<double>::max(), -static_cast<double>(kInf)};
  exp_row(none);
  EXPECT_EQ(none, std::vector<double>(4, 0.0));
}

TEST(LogitRows, SumsOfExponentialsTakeEveryLength) {
  Random random(2);
  for (const size_t n : {0, 1, 511, 512, 513, 1500}) {
    std::vector<float> x;
    for (size_t i = 0; i < n; ++i) x.push_back(i == 3 ? -kInf : random.symmetric(20.0f));
    long double expected = 0;
    for (const float value : x) expected += std::exp(static_cast<long double>(value) - 20);
    EXPECT_NEAR(sum_exp(x, 20), static_cast<double>(expected), 1e-14 * static_cast<double>(expected)) << n;
  }
}

TEST(LogitRows, EveryInstructionSetGivesTheSameBits) {
  const LogitKernels& plain = *logit_kernels().front();
  Random random(3);
  for (const size_t n : {0, 1, 15, 16, 17, 600, 5003}) {
    std::vector<float> x;
    std::vector<double> y;
    for (size_t i = 0; i < n; ++i) {
      x.push_back(random.symmetric(30.0f));
      y.push_back(-750 * random.uniform());
    }
    std::vector<double> e = y;
    plain.exp_row(e.data(), n);
    for (const LogitKernels* kernels : logit_kernels()) {
      EXPECT_TRUE(kernels->all_usable(x.data(), n));
      EXPECT_EQ(kernels->largest_float(x.data(), n), plain.largest_float(x.data(), n));
      EXPECT_EQ(kernels->largest_double(y.data(), n), plain.largest_double(y.data(), n));
      EXPECT_EQ(kernels->sum(y.data(), n), plain.sum(y.data(), n));
      EXPECT_EQ(kernels->sum_exp(x.data(), n, 30), plain.sum_exp(x.data(), n, 30));
      std::vector<double> own = y;
      kernels->exp_row(own.data(), n);
      EXPECT_EQ(own, e) << n;
    }
  }
}

}  // namespace
}  // namespace vl2
