// Weights in device memory, and the slabs they lie in. Uploaded once; immutable.
#pragma once

#include <memory>
#include <vector>

#include "engine/cuda/device/device.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/rows.h"
#include "engine/ops/ops.h"

namespace vl2::cuda {

// Thousands of matrices, few allocations. A slab lives as long as one piece of it; pieces keep the device open.
class WeightMemory {
 public:
  explicit WeightMemory(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  std::shared_ptr<std::byte> allocate(int64_t bytes);  // 256-byte aligned

  // A stored matrix [rows, cols] row by row in float32 or bfloat16, rows padded with zeros.
  std::shared_ptr<const WeightStorage> rows(const TensorView& tensor, int64_t rows, int64_t cols, MatrixFormat format);
  // The same from panels, decoded; q8 and q4 to bfloat16 or float32.
  std::shared_ptr<const WeightStorage> decoded(const PanelMatrix& panels, MatrixFormat format);
  std::shared_ptr<const WeightStorage> panels(const PanelMatrix& panels);  // q8 and q4 as they are
  // kv_b from its parts: of each head W_UK, then W_UV.
  std::shared_ptr<const WeightStorage> decoded(const LatentPanels& kv_b, MatrixFormat format);
  std::shared_ptr<const WeightStorage> table(const TensorView& tensor);  // rows that are looked up
  std::shared_ptr<const WeightStorage> vector(
      const TensorView& tensor);  // float32, and bfloat16 where that is the same

 private:
  template <typename Row>
  std::shared_ptr<const WeightStorage> from_rows(int64_t rows, int64_t cols, MatrixFormat format, const Row& row);

  std::shared_ptr<Device> device_;
  std::shared_ptr<std::byte> slab_;
  int64_t size_ = 0, used_ = 0;
};

class DeviceMatrix : public WeightStorage {
 public:
  DeviceMatrix(MatrixView matrix, int64_t bytes, std::shared_ptr<std::byte> memory)
      : view(matrix), bytes_(bytes), memory_(std::move(memory)) {}
  int64_t num_bytes() const override { return bytes_; }
  const MatrixView view;

 private:
  int64_t bytes_;
  std::shared_ptr<std::byte> memory_;
};

class DeviceTable : public WeightStorage {
 public:
  DeviceTable(TableView table, int64_t bytes, std::shared_ptr<std::byte> memory, const Bf16Bits* exact_bf16 = nullptr)
      : view(table), narrow(exact_bf16), bytes_(bytes), memory_(std::move(memory)) {}
  int64_t num_bytes() const override { return bytes_; }
  const TableView view;
  const Bf16Bits* const narrow;  // of a vector: the same values; nullptr where bfloat16 has not got them

 private:
  int64_t bytes_;
  std::shared_ptr<std::byte> memory_;
};

inline const MatrixView& matrix(const Weight& w) { return static_cast<const DeviceMatrix&>(*w.storage).view; }
inline const TableView& table(const Weight& w) { return static_cast<const DeviceTable&>(*w.storage).view; }
inline const Bf16Bits* narrow_vector(const Weight& w) {
  return w ? static_cast<const DeviceTable&>(*w.storage).narrow : nullptr;
}
// nullptr for an empty weight.
inline const float* vector(const Weight& w) { return w ? static_cast<const float*>(table(w).data) : nullptr; }

}  // namespace vl2::cuda
