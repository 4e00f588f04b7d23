#include "engine/cuda/cuda_weights.h"

#include <algorithm>

namespace vl2::cuda {
namespace {

constexpr int64_t kSlabBytes = int64_t{128} << 20;
constexpr int64_t kStagedBytes = int64_t{8} << 20;  // converted at a time

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
int64_t value_bytes(MatrixFormat format) { return format == MatrixFormat::kF32 ? 4 : 2; }

}  // namespace

std::shared_ptr<std::byte> WeightMemory::allocate(int64_t bytes) {
  bytes = round_up(std::max<int64_t>(bytes, 1), 256);
  const auto take = [this](int64_t size) {
    auto* memory = static_cast<std::byte*>(device_->allocate(static_cast<size_t>(size)));
    return std::shared_ptr<std::byte>(memory, [device = device_](std::byte* p) { device->release(p); });
  };
  if (bytes > kSlabBytes / 4) return take(bytes);
  if (slab_ == nullptr || used_ + bytes > size_) {
    // Small models take small slabs: what a large one rounds up to nobody notices.
    size_ = std::max(bytes, std::min(kSlabBytes, std::max<int64_t>(2 * size_, int64_t{2} << 20)));
    slab_ = take(size_);
    used_ = 0;
  }
  std::shared_ptr<std::byte> piece(slab_, slab_.get() + used_);
  used_ += bytes;
  return piece;
}

// row(r, out): row r as floats.
template <typename Row>
std::shared_ptr<const WeightStorage> WeightMemory::from_rows(int64_t rows, int64_t cols, MatrixFormat format,
                                                             const Row& row) {
  const int64_t stride = round_up(cols, 8), row_bytes = stride * value_bytes(format);
  const auto memory = allocate(rows * row_bytes);
  const int64_t at_once = std::clamp<int64_t>(kStagedBytes / row_bytes, 1, std::max<int64_t>(rows, 1));
  std::vector<float> values(static_cast<size_t>(stride), 0.0f);
  std::vector<std::byte> staged(static_cast<size_t>(at_once * row_bytes));
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    const int64_t count = std::min(at_once, rows - begin);
    for (int64_t r = 0; r < count; ++r) {
      row(begin + r, values.data());
      std::byte* out = staged.data() + r * row_bytes;
      if (format == MatrixFormat::kF32) {
        std::copy_n(values.data(), stride, reinterpret_cast<float*>(out));
      } else {
        std::transform(values.begin(), values.end(), reinterpret_cast<BF16*>(out),
                       [](float x) { return vl2::to_bf16(x); });
      }
    }
    device_->upload(memory.get() + begin * row_bytes, staged.data(), static_cast<size_t>(count * row_bytes));
  }
  return std::make_shared<DeviceMatrix>(MatrixView{format, memory.get(), rows, cols, stride}, rows * row_bytes, memory);
}

std::shared_ptr<const WeightStorage> WeightMemory::rows(const TensorView& tensor, int64_t rows, int64_t cols,
                                                        MatrixFormat format) {
  const bool as_stored = tensor.dtype == (format == MatrixFormat::kF32 ? DType::kF32 : DType::kBF16);
  if (!as_stored)
    return from_rows(rows, cols, format, [&](int64_t r, float* out) { to_floats(tensor, r * cols, cols, out); });
  const int64_t stride = round_up(cols, 8), bytes = rows * stride * value_bytes(format);
  const auto memory = allocate(bytes);
  const auto width = static_cast<size_t>(cols * value_bytes(format)),
             pitch = static_cast<size_t>(stride * value_bytes(format));
  if (pitch != width) device_->clear(memory.get(), static_cast<size_t>(bytes));
  device_->upload_rows(memory.get(), pitch, tensor.data, width, width, static_cast<size_t>(rows));
  return std::make_shared<DeviceMatrix>(MatrixView{format, memory.get(), rows, cols, stride}, bytes, memory);
}

std::shared_ptr<const WeightStorage> WeightMemory::decoded(const PanelMatrix& panels, MatrixFormat format) {
  return from_rows(panels.rows, panels.cols, format, [&](int64_t r, float* out) { decode_row(panels, r, out); });
}

std::shared_ptr<const WeightStorage> WeightMemory::panels(const PanelMatrix& panels) {
  const int64_t bytes = panels.num_bytes();
  const auto memory = allocate(bytes);
  device_->upload(memory.get(), panels.data, static_cast<size_t>(bytes));
  const MatrixFormat format = panels.format == PanelFormat::kQ8 ? MatrixFormat::kQ8 : MatrixFormat::kQ4;
  const MatrixView view{format, memory.get(), panels.rows, panels.cols, panel_bytes(panels.format, panels.cols)};
  return std::make_shared<DeviceMatrix>(view, bytes, memory);
}

std::shared_ptr<const WeightStorage> WeightMemory::decoded(const LatentPanels& kv_b, MatrixFormat format) {
  const int64_t per_head = kv_b.uk.rows + kv_b.uv.rows;
  return from_rows(kv_b.num_heads * per_head, kv_b.uk.cols, format, [&](int64_t r, float* out) {
    const int64_t head = r / per_head, row = r % per_head;
    PanelMatrix part = row < kv_b.uk.rows ? kv_b.uk : kv_b.uv;
    part.data += head * part.num_bytes();
    decode_row(part, row < kv_b.uk.rows ? row : row - kv_b.uk.rows, out);
  });
}

std::shared_ptr<const WeightStorage> WeightMemory::table(const TensorView& tensor) {
  const int64_t rows = tensor.shape[0], cols = tensor.size() / rows;
  const bool bf16 = tensor.dtype == DType::kBF16;
  const int64_t bytes = tensor.size() * (bf16 ? 2 : 4);
  const auto memory = allocate(bytes);
  if (bf16 || tensor.dtype == DType::kF32) {
    device_->upload(memory.get(), tensor.data, static_cast<size_t>(bytes));
  } else {
    const std::vector<float> values = to_floats(tensor);
    device_->upload(memory.get(), values.data(), static_cast<size_t>(bytes));
  }
  return std::make_shared<DeviceTable>(TableView{memory.get(), bf16, rows, cols}, bytes, memory);
}

std::shared_ptr<const WeightStorage> WeightMemory::vector(const TensorView& tensor) {
  const std::vector<float> values = to_floats(tensor);
  std::vector<BF16> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(), [](float x) { return vl2::to_bf16(x); });
  const bool exact = std::equal(values.begin(), values.end(), rounded.begin(),
                                [](float x, BF16 narrow) { return x == to_float(narrow); });
  const auto wide_bytes = round_up(static_cast<int64_t>(values.size() * sizeof(float)), 16),
             narrow_bytes = exact ? static_cast<int64_t>(rounded.size() * sizeof(BF16)) : 0;
  const auto memory = allocate(wide_bytes + narrow_bytes);
  device_->upload(memory.get(), values.data(), values.size() * sizeof(float));
  if (exact) device_->upload(memory.get() + wide_bytes, rounded.data(), rounded.size() * sizeof(BF16));
  return std::make_shared<DeviceTable>(TableView{memory.get(), false, 1, tensor.size()}, wide_bytes + narrow_bytes,
                                       memory,
                                       exact ? reinterpret_cast<const Bf16Bits*>(memory.get() + wide_bytes) : nullptr);
}

}  // namespace vl2::cuda
