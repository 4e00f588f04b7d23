// Weights and cache of the reference backend: plain float copies, one layout. And the one sum everything is made of.
#pragma once

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/ops/ops.h"

namespace vl2::reference {

class Matrix : public WeightStorage {
 public:
  Matrix(const TensorView& tensor, int64_t cols) : values_(to_floats(tensor)), cols_(cols) {}
  Matrix(std::vector<float> values, int64_t cols) : values_(std::move(values)), cols_(cols) {}
  int64_t num_bytes() const override { return static_cast<int64_t>(values_.size() * sizeof(float)); }
  const float* row(int64_t r) const { return values_.data() + r * cols_; }

 private:
  std::vector<float> values_;
  int64_t cols_;
};

// Appends the rows of a stored matrix as what they mean.
inline void decode_rows(const PanelMatrix& stored, std::vector<float>& values) {
  const size_t begin = values.size();
  values.resize(begin + static_cast<size_t>(stored.rows * stored.cols));
  for (int64_t r = 0; r < stored.rows; ++r) decode_row(stored, r, values.data() + begin + r * stored.cols);
}

inline const Matrix& matrix(const Weight& w) { return static_cast<const Matrix&>(*w.storage); }
inline const float* vector(const Weight& w) { return matrix(w).row(0); }

// In double; the library adds four products at a time, which is three times as fast as one after the other.
template <typename T, typename U>
double dot(const T* a, const U* b, int64_t n) {
  return std::transform_reduce(a, a + n, b, 0.0, std::plus<>(),
                               [](T x, U y) { return static_cast<double>(x) * static_cast<double>(y); });
}

class FloatCache : public KvCache {
 public:
  FloatCache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width)
      : KvCache(layers, blocks, block_tokens, width),
        values_(static_cast<size_t>(layers * blocks * block_tokens * width)) {}
  int64_t num_bytes() const override { return static_cast<int64_t>(values_.size() * sizeof(float)); }
  void read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const override {
    std::copy_n(values_.data() + offset(layer, blocks, token), width(), out);
  }
  float* row(int64_t layer, std::span<const int32_t> blocks, int64_t token) {
    return values_.data() + offset(layer, blocks, token);
  }

 private:
  int64_t offset(int64_t layer, std::span<const int32_t> blocks, int64_t token) const {
    const int64_t block = blocks[static_cast<size_t>(token / block_tokens())];
    return ((layer * num_blocks() + block) * block_tokens() + token % block_tokens()) * width();
  }
  std::vector<float> values_;
};

}  // namespace vl2::reference
