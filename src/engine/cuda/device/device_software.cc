// Device on the host's own memory, for the software device: everything has happened when a call returns.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/base/available_memory.h"
#include "core/base/dtype.h"
#include "core/base/error.h"
#include "engine/cuda/device/device.h"
#include "engine/cuda/device/software_device.h"

namespace vl2::cuda {
namespace {

template <typename T>
float value(T x) {
  if constexpr (sizeof(T) == sizeof(uint16_t))
    return to_float(BF16{x});
  else
    return x;
}

// Sixteen partial sums: vectors for the compiler, and errors like those of a device that adds up in tiles.
template <typename T>
float dot(const T* x, const T* w, int64_t depth) {
  float sums[16] = {};
  int64_t k = 0;
  for (; k + 16 <= depth; k += 16)
    for (int64_t i = 0; i < 16; ++i) sums[i] += value(x[k + i]) * value(w[k + i]);
  for (; k < depth; ++k) sums[k % 16] += value(x[k]) * value(w[k]);
  for (int64_t width = 8; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  return sums[0];
}

float gelu_tanh(float x) { return 0.5f * x * (1.0f + std::tanh(0.79788456080286536f * (x + 0.044715f * x * x * x))); }

template <typename T>
void multiply(const Gemm& g) {
  for (int64_t b = 0; b < g.batch; ++b)
    for (int64_t r = 0; r < g.rows; ++r) {
      const T* x = static_cast<const T*>(g.x) + b * g.x_batch + r * g.x_stride;
      const int64_t at = b * g.out_batch + r * g.out_stride;
      for (int64_t c = 0; c < g.cols; ++c) {
        float sum = dot(x, static_cast<const T*>(g.w) + b * g.w_batch + c * g.w_stride, g.depth);
        if (g.out_type == ElementType::kBf16) {
          if (g.bias_bf16 != nullptr) sum += to_float(BF16{g.bias_bf16[c]});
          static_cast<uint16_t*>(g.out)[at + c] = to_bf16(g.gelu ? gelu_tanh(sum) : sum).bits;
          continue;
        }
        float* out = static_cast<float*>(g.out) + at + c;
        *out = (g.add ? *out + sum : sum) + (g.bias != nullptr ? g.bias[c] : 0.0f);
      }
    }
}

void copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows) {
  for (size_t r = 0; r < rows; ++r)
    std::memcpy(static_cast<std::byte*>(to) + r * to_pitch, static_cast<const std::byte*>(from) + r * from_pitch,
                width);
}

struct WorkList : Recording {
  software::Work work;
};

class SoftwareDevice : public Device {
 public:
  const DeviceProperties& properties() const override { return properties_; }
  bool is_software() const override { return true; }
  Stream stream() const override { return nullptr; }
  int64_t free_memory() const override { return available_memory().value_or(INT64_MAX); }

  void* allocate(size_t bytes) override {
    not_while_recording();
    constexpr size_t kAlignment = 256;
    const size_t size = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
    void* memory = std::aligned_alloc(kAlignment, size);
    if (memory == nullptr) fail(ErrorCode::kOutOfMemory, "no {} bytes for the software device", size);
    std::memset(memory, 0xff, size);  // NaNs: nobody may count on zeros
    return memory;
  }
  void release(void* memory) noexcept override {
    if (list_ != nullptr) return released_.push_back(memory);
    std::free(memory);
  }

  void upload(void* to, const void* from, size_t bytes) override {
    not_while_recording();
    copy(to, from, bytes);
  }
  void download(void* to, const void* from, size_t bytes) override { upload(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) software::do_or_record([=] { std::memcpy(to, from, bytes); });
  }
  void clear(void* memory, size_t bytes) override {
    if (bytes > 0) software::do_or_record([=] { std::memset(memory, 0, bytes); });
  }
  void upload_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows) override {
    not_while_recording();
    copy_rows(to, to_pitch, from, from_pitch, width, rows);
  }
  void download_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                     size_t rows) override {
    not_while_recording();
    copy_rows(to, to_pitch, from, from_pitch, width, rows);
  }

  bool gemm(const Gemm& product) override {
    software::do_or_record(
        [product] { product.type == ElementType::kBf16 ? multiply<uint16_t>(product) : multiply<float>(product); });
    return true;
  }
  void synchronize() override { not_while_recording(); }

  void begin_recording() override {
    list_ = std::make_unique<WorkList>();
    software::recorded = &list_->work;
  }
  std::unique_ptr<Recording> end_recording() override {
    software::recorded = nullptr;
    std::unique_ptr<Recording> result = std::move(list_);
    for (void* memory : released_) release(memory);
    released_.clear();
    return result;
  }
  void replay(Recording& recording) override {
    for (const auto& work : static_cast<WorkList&>(recording).work) work();
  }

 private:
  void not_while_recording() const {
    if (list_ != nullptr) throw CannotRecord();
  }

  std::unique_ptr<WorkList> list_;  // while recording
  std::vector<void*> released_;
  DeviceProperties properties_ = {.name = "software device",
                                  .number = 0,
                                  .major = 9,
                                  .minor = 0,
                                  .multiprocessors = 4,
                                  .shared_bytes = 227 << 10,
                                  .total_memory = INT64_MAX};
};

}  // namespace

int device_count() { return 1; }
bool device_is_usable(int number) { return number == 0; }

std::unique_ptr<Device> open_device(int number) {
  if (number != 0) fail(ErrorCode::kUnsupported, "there is no software device {}", number);
  return std::make_unique<SoftwareDevice>();
}

int64_t free_memory_of(int) { return available_memory().value_or(INT64_MAX); }

}  // namespace vl2::cuda
