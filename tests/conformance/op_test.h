// Every operation of every backend against the reference, on sizes that fit nobody's tiles.
//
// Tolerances follow from norms (docs/numerics.md). A sum of k products in float32 errs by about sqrt(k) eps |w| |x|;
// with activations rounded to bfloat16, each product errs by up to 2^-9 of itself on top, independently of the others.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/base/tensor_view.h"
#include "engine/ops/ops.h"
#include "parity/backends.h"

namespace vl2::conformance {

// A matrix as a checkpoint stores it.
struct Stored {
  DType dtype;
  Shape shape;
  std::vector<float> values;  // what the stored bits mean
  std::vector<std::byte> bytes;

  Stored(DType type, Shape dims, Random& random, float scale);
  TensorView view() const { return {bytes.data(), dtype, shape}; }
  int64_t rows() const { return shape[0]; }
  int64_t cols() const { return shape.size() > 1 ? shape[1] : 1; }
};

// Rows of activations that own their memory; stride beyond the columns, so that nobody may assume there is none.
class Rows {
 public:
  Rows(int64_t rows, int64_t cols, int64_t padding = 3);
  static Rows random(int64_t rows, int64_t cols, Random& random, float scale = 1.0f);
  Tensor tensor() { return {values_.data(), rows_, 1, cols_, stride_, cols_}; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  float* row(int64_t r) { return values_.data() + r * stride_; }
  const float* row(int64_t r) const { return values_.data() + r * stride_; }

 private:
  int64_t rows_, cols_, stride_;
  std::vector<float> values_;
};

double norm(const float* x, int64_t n);
double largest_value(const Rows& x);  // of all, without its sign

// The backend under test beside the reference; the parameter is a name of parity::backends().
class OpTest : public testing::TestWithParam<std::string> {
 protected:
  OpTest();

  // Largest error one output of a product of depth k may have, for vectors of these norms.
  double product_tolerance(int64_t k, double w_norm, double x_norm) const;
  // |actual - expected| <= tolerance everywhere.
  static void expect_near(const Rows& actual, const Rows& expected, double tolerance, const std::string& what);
  static void expect_same_bits(const Rows& actual, const Rows& expected, const std::string& what);
  // The same bits where the backend promises them (Backend::same_bits); else within `tolerance`, which is what either
  // side may be off the reference, twice.
  void expect_same_rows(const Rows& actual, const Rows& expected, double tolerance, const std::string& what) const;
  bool rounds_activations() const { return rounds_; }
  bool same_bits() const { return same_bits_; }
  bool int8_cache() const { return int8_cache_; }

  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Ops> reference_;
  Random random_;

 private:
  bool rounds_;
  bool same_bits_;
  bool int8_cache_;
};

std::string backend_test_name(const testing::TestParamInfo<std::string>& info);
std::vector<std::string> tested_backends();
std::vector<std::string> narrow_cache_backends();

}  // namespace vl2::conformance

#define VL2_FOR_EVERY_BACKEND(suite)                                                                \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, testing::ValuesIn(vl2::conformance::tested_backends()), \
                           vl2::conformance::backend_test_name)
