// Weights in the kernels' panels, and the slabs of memory they lie in.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/cpu/kernels/kernel_table.h"
#include "engine/ops/ops.h"

namespace vl2::cpu {

// float32, or one of core/quant's forms.
enum class Format { kF32, kBf16, kQ8, kQ4 };

Format format_of(PanelFormat stored);
int64_t panel_bytes(Format format, int64_t k);
inline int64_t num_panels(int64_t n) { return (n + kPanel - 1) / kPanel; }

// Zeroed memory that the system backs page by page, with huge pages where it has them; unmapped with the last owner.
std::shared_ptr<std::byte> map_lazily(int64_t bytes);

// Hands out pieces of large blocks in huge pages where the system has them: thousands of expert matrices, few mappings,
// and no page half used. A block lives as long as one piece of it does.
class SlabAllocator {
 public:
  std::shared_ptr<std::byte> allocate(int64_t bytes);  // 64-byte aligned

 private:
  std::shared_ptr<std::byte> slab_;
  int64_t size_ = 0;
  int64_t used_ = 0;
};

// A matrix W [out, in] in panels of 16 rows.
class PackedMatrix : public WeightStorage {
 public:
  PackedMatrix(Format stored, int64_t rows, int64_t cols, SlabAllocator& slabs)
      : format(stored), n(rows), k(cols), data_(slabs.allocate(num_bytes())) {}
  // Stored as the kernels read it: stays where it is, kept alive by `owner`.
  PackedMatrix(const PanelMatrix& stored, std::shared_ptr<const void> owner)
      : format(format_of(stored.format)), n(stored.rows), k(stored.cols), data_(std::move(owner), stored.data) {}
  int64_t num_bytes() const override { return num_panels(n) * stride; }
  const std::byte* panel(int64_t index) const { return data_.get() + index * stride; }
  std::byte* writable() { return const_cast<std::byte*>(data_.get()); }  // of what came from slabs

  const Format format;
  const int64_t n, k;
  const int64_t stride = panel_bytes(format, k);  // bytes of a panel

 private:
  const std::shared_ptr<const std::byte> data_;
};

// Stored rows that are only ever copied out (embedding table), in their stored type.
class LookupTable : public WeightStorage {
 public:
  LookupTable(const TensorView& tensor, SlabAllocator& slabs, ThreadPool& pool);
  // Read where it is, kept alive by `owner`.
  LookupTable(const TensorView& tensor, std::shared_ptr<const void> owner)
      : view(tensor), data_(std::move(owner), tensor.data) {}
  int64_t num_bytes() const override { return static_cast<int64_t>(view.num_bytes()); }

  TensorView view;

 private:
  std::shared_ptr<const std::byte> data_;
};

class FloatVector : public WeightStorage {
 public:
  explicit FloatVector(const TensorView& tensor) : values(to_floats(tensor)) {}
  int64_t num_bytes() const override { return static_cast<int64_t>(values.size() * sizeof(float)); }
  const std::vector<float> values;
};

// W_kvb per head: W_UK [nope, rank] and W_UV [v, rank] to expand keys and values, W_UK^T [rank, nope] to absorb
// queries.
class LatentStorage : public WeightStorage {
 public:
  std::vector<std::unique_ptr<PackedMatrix>> uk, uv, uk_transposed;  // one per head
  int64_t num_bytes() const override;
};

// Fills a panel matrix from rows: rows(r, buffer) must give row r as floats.
using RowReader = std::function<void(int64_t row, float* out)>;
void pack_rows(PackedMatrix& matrix, const RowReader& rows, ThreadPool& pool);
// The same from a stored bf16 tensor, without going through floats.
void pack_bf16(PackedMatrix& matrix, const BF16* rows, ThreadPool& pool);

// Activations as panels, for attention: rows [n][k], or their transpose from [k][n]. One thread.
void pack_panels(const KernelTable& kernels, Format format, const float* x, int64_t stride, int64_t n, int64_t k,
                 std::byte* out);
void pack_panels_transposed(const KernelTable& kernels, Format format, const float* x, int64_t stride, int64_t n,
                            int64_t k, std::byte* out);

}  // namespace vl2::cpu
