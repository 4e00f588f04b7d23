#include "conformance/op_test.h"

#include <cstring>

namespace vl2::conformance {

Stored::Stored(DType type, Shape dims, Random& random, float scale) : dtype(type), shape(std::move(dims)) {
  const auto n = static_cast<size_t>(num_elements(shape));
  values.resize(n);
  bytes.resize(n * dtype_size(dtype));
  for (size_t i = 0; i < n; ++i) {
    values[i] = scale * random.normal();
    if (dtype == DType::kBF16) {
      const BF16 narrow = to_bf16(values[i]);
      values[i] = to_float(narrow);
      std::memcpy(bytes.data() + i * sizeof narrow, &narrow, sizeof narrow);
    } else {
      std::memcpy(bytes.data() + i * sizeof(float), &values[i], sizeof(float));
    }
  }
}

Rows::Rows(int64_t rows, int64_t cols, int64_t padding)
    : rows_(rows), cols_(cols), stride_(cols + padding), values_(static_cast<size_t>(rows * stride_), 0.0f) {}

Rows Rows::random(int64_t rows, int64_t cols, Random& random, float scale) {
  Rows result(rows, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) result.row(r)[c] = scale * random.normal();
  return result;
}

double norm(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return std::sqrt(sum);
}

double largest_value(const Rows& x) {
  double result = 0;
  for (int64_t r = 0; r < x.rows(); ++r)
    for (int64_t c = 0; c < x.cols(); ++c) result = std::max(result, std::fabs(static_cast<double>(x.row(r)[c])));
  return result;
}

OpTest::OpTest()
    : ops_(parity::backend(GetParam()).make_on_host()),
      reference_(parity::backend("reference").make()),
      random_(fnv1a64(testing::UnitTest::GetInstance()->current_test_info()->name())),
      rounds_(parity::backend(GetParam()).rounds),
      same_bits_(parity::backend(GetParam()).same_bits),
      int8_cache_(parity::backend(GetParam()).int8_cache) {}

double OpTest::product_tolerance(int64_t k, double w_norm, double x_norm) const {
  // Normal values: |w| |x| is sqrt(k) times the spread of the sum. Adding up in float32 then errs by 0.4 eps |w| |x|
  // (one standard deviation), rounding each activation by 2^-9 / sqrt(3) |w| |x| / sqrt(k). Thousands of outputs are
  // looked at: seven deviations and a bit.
  const double eps = 0x1.0p-24, rounding = rounds_ ? 5 * 0x1.0p-9 / std::sqrt(static_cast<double>(k)) : 0;
  return (4 * eps + rounding) * w_norm * x_norm;
}

void OpTest::expect_near(const Rows& actual, const Rows& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.rows(), expected.rows());
  ASSERT_EQ(actual.cols(), expected.cols());
  double worst = 0;
  int64_t worst_row = 0, worst_col = 0;
  for (int64_t r = 0; r < actual.rows(); ++r)
    for (int64_t c = 0; c < actual.cols(); ++c) {
      const double error = std::abs(static_cast<double>(actual.row(r)[c]) - static_cast<double>(expected.row(r)[c]));
      if (error > worst || std::isnan(error))
        worst = std::isnan(error) ? INFINITY : error, worst_row = r, worst_col = c;
    }
  EXPECT_LE(worst, tolerance) << what << ": [" << worst_row << ", " << worst_col << "] is "
                              << actual.row(worst_row)[worst_col] << ", should be "
                              << expected.row(worst_row)[worst_col];
}

void OpTest::expect_same_bits(const Rows& actual, const Rows& expected, const std::string& what) {
  ASSERT_EQ(actual.rows(), expected.rows());
  ASSERT_EQ(actual.cols(), expected.cols());
  for (int64_t r = 0; r < actual.rows(); ++r)
    for (int64_t c = 0; c < actual.cols(); ++c)
      ASSERT_EQ(std::memcmp(actual.row(r) + c, expected.row(r) + c, sizeof(float)), 0)
          << what << ": [" << r << ", " << c << "] is " << actual.row(r)[c] << ", should be " << expected.row(r)[c];
}

void OpTest::expect_same_rows(const Rows& actual, const Rows& expected, double tolerance,
                              const std::string& what) const {
  if (same_bits_)
    expect_same_bits(actual, expected, what);
  else
    expect_near(actual, expected, tolerance, what);
}

std::string backend_test_name(const testing::TestParamInfo<std::string>& info) { return info.param; }

std::vector<std::string> narrow_cache_backends() {
  std::vector<std::string> names;
  for (const parity::Backend& b : parity::narrow_cache_backends()) names.push_back(b.name);
  return names;
}

std::vector<std::string> tested_backends() {
  std::vector<std::string> names;
  for (const auto* list : {&parity::backends(), &parity::rounding_backends()})
    for (const parity::Backend& b : *list)
      if (b.name != "reference") names.push_back(b.name);
  return names;
}

}  // namespace vl2::conformance
