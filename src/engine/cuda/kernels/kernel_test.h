// What tests of kernels share: memory the device reads, matrices of every format, rows with odd strides.
//
// On the software device memory of the device is memory of the host. Compiled with VL2_TESTS_ON_GPU and linked with
// what nvcc made of the kernels, the same tests run on a GPU, in memory that both sides see; CUDA_LAUNCH_BLOCKING=1
// must be set, so that a launcher returns when its kernel has ended.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/random.h"
#include "core/quant/panel_format.h"
#include "engine/cuda/kernels/matrix.h"

#ifdef VL2_TESTS_ON_GPU
#include <cuda_runtime_api.h>
#endif

namespace vl2::cuda {

inline void* test_memory(size_t bytes) {
  void* p = nullptr;
#ifdef VL2_TESTS_ON_GPU
  if (cudaMallocManaged(&p, bytes) != cudaSuccess) throw std::bad_alloc();
#else
  if (posix_memalign(&p, 256, bytes) != 0) throw std::bad_alloc();
#endif
  return p;
}
inline void free_test_memory(void* p) {
#ifdef VL2_TESTS_ON_GPU
  cudaFree(p);
#else
  std::free(p);
#endif
}

// Memory at multiples of 256 bytes, as a device's is, exactly as large as asked for.
template <typename T>
class Aligned {
 public:
  explicit Aligned(int64_t count) : size_(count) {
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T);
    data_.reset(static_cast<T*>(test_memory(bytes)));
    std::memset(static_cast<void*>(data_.get()), 0, bytes);
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { free_test_memory(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t size_;
};

struct KernelRows {
  int64_t rows, cols, stride;
  Aligned<float> values;

  KernelRows(int64_t r, int64_t c, int64_t padding = 3) : rows(r), cols(c), stride(c + padding), values(r * stride) {
    for (int64_t i = 0; i < values.size(); ++i) values[i] = std::nanf("");
  }
  void fill(Random& random, float scale = 1.0f) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) row(r)[c] = scale * random.normal();
  }
  float* row(int64_t r) { return values.data() + r * stride; }
  const float* row(int64_t r) const { return values.data() + r * stride; }
};

struct KernelMatrix {
  MatrixView view;
  Aligned<std::byte> bytes;
  std::vector<float> values;  // [rows, cols]: what the stored bits mean

  KernelMatrix(MatrixFormat format, int64_t rows, int64_t cols, Random& random, float scale = 0.5f)
      : bytes(size(format, rows, cols)), values(static_cast<size_t>(rows * cols)) {
    view = {format, bytes.data(), rows, cols, (cols + 7) / 8 * 8};
    for (float& v : values) v = scale * random.normal();
    const auto at = [&](int64_t r, int64_t c) -> float& { return values[static_cast<size_t>(r * cols + c)]; };
    if (format == MatrixFormat::kF32 || format == MatrixFormat::kBf16) {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c) {
          if (format == MatrixFormat::kF32) {
            reinterpret_cast<float*>(bytes.data())[r * view.stride + c] = at(r, c);
          } else {
            const BF16 rounded = to_bf16(at(r, c));
            reinterpret_cast<uint16_t*>(bytes.data())[r * view.stride + c] = rounded.bits;
            at(r, c) = to_float(rounded);
          }
        }
      return;
    }
    const PanelFormat panels = format == MatrixFormat::kQ8 ? PanelFormat::kQ8 : PanelFormat::kQ4;
    view.stride = panel_bytes(panels, cols);
    for (int64_t r = 0; r < rows; r += kPanelRows)
      encode_panel(panels, &at(r, 0), cols, std::min(kPanelRows, rows - r), cols, nullptr,
                   bytes.data() + r / kPanelRows * view.stride);
    for (int64_t r = 0; r < rows; ++r) decode_row({panels, rows, cols, bytes.data()}, r, &at(r, 0));
  }
  static int64_t size(MatrixFormat format, int64_t rows, int64_t cols) {
    switch (format) {
      case MatrixFormat::kF32:
        return rows * ((cols + 7) / 8 * 8) * 4;
      case MatrixFormat::kBf16:
        return rows * ((cols + 7) / 8 * 8) * 2;
      case MatrixFormat::kQ8:
        return matrix_bytes(PanelFormat::kQ8, rows, cols);
      case MatrixFormat::kQ4:
        return matrix_bytes(PanelFormat::kQ4, rows, cols);
    }
    return 0;
  }
  const float* row(int64_t r) const { return &values[static_cast<size_t>(r * view.cols)]; }
};

inline constexpr MatrixFormat kAllFormats[] = {MatrixFormat::kF32, MatrixFormat::kBf16, MatrixFormat::kQ8,
                                               MatrixFormat::kQ4};
inline const char* format_name(MatrixFormat format) {
  constexpr const char* kNames[] = {"f32", "bf16", "q8", "q4"};
  return kNames[static_cast<size_t>(format)];
}

// A sum of products and the norms that bound its error (docs/numerics.md).
struct Dot {
  double sum = 0, x_norm = 0, w_norm = 0;
  Dot(const float* x, const float* w, int64_t n) {
    for (int64_t k = 0; k < n; ++k) {
      const auto a = static_cast<double>(x[k]), b = static_cast<double>(w[k]);
      sum += a * b, x_norm += a * a, w_norm += b * b;
    }
    x_norm = std::sqrt(x_norm), w_norm = std::sqrt(w_norm);
  }
  double tolerance(int64_t n, bool exact) const {
    const double relative = 4 * 0x1.0p-24 + (exact ? 0 : 5 * 0x1.0p-9 / std::sqrt(static_cast<double>(n)));
    return relative * x_norm * w_norm + 1e-7;
  }
  // On top of that for float32 arithmetic on tensor cores, which cut off what does not fit instead of rounding: each of
  // three mma for 16 products loses up to 2^-23 of the running sum, 2^-24 on average and all of it in one direction.
  // The running sum of random products stays within four deviations, 4 |x| |w| / sqrt(n).
  double cut_off(int64_t n) const {
    const double mmas = 3 * std::ceil(static_cast<double>(n) / 16);
    return mmas * 0x1.0p-24 * 4 / std::sqrt(static_cast<double>(n)) * x_norm * w_norm;
  }
};

}  // namespace vl2::cuda
