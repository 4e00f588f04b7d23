// What the host code of the CUDA backend knows of a GPU: memory, copies, one stream of work, products by the library.
//
// Two bodies: device_cuda.cc (CUDA runtime and cuBLASLt) and device_software.cc (host memory and plain loops, for tests
// on machines without a GPU). All work of a Device goes through its one stream, in order; nothing here waits for the
// GPU unless it says so. One thread at a time. Errors: kUnsupported (no such device), kOutOfMemory, kInternal (a kernel
// or a copy failed).
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "engine/cuda/device/stream.h"

namespace vl2::cuda {

struct DeviceProperties {
  std::string name;          // "NVIDIA H100 80GB HBM3", "software device"
  int number = 0;            // of this device among the machine's
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 1;
  int64_t shared_bytes = 0;  // a block can ask for
  int64_t total_memory = 0;  // bytes
};

enum class ElementType : uint8_t { kF32, kBf16 };

// Work of a stretch, to be done again: kernels, copies inside the device and products with the arguments they had.
class Recording {
 public:
  virtual ~Recording() = default;
};

// Thrown while a stretch is recorded by what cannot be part of one.
class CannotRecord : public std::exception {
 public:
  const char* what() const noexcept override { return "copies to or from the host and allocations are not recorded"; }
};

// out = x w^T, or out += x w^T, for each of `batch` products. x [rows, depth] and w [cols, depth] of the same type, out
// [rows, cols] float32, all row-major; strides in elements. Sums in float32 (float32 factors are not rounded to TF32).
// Of bfloat16 factors out may be bfloat16 too: rounded at the end, after bias and GELU.
struct Gemm {
  void* out = nullptr;
  const void* x = nullptr;
  const void* w = nullptr;
  ElementType type = ElementType::kF32;
  int64_t rows = 0, cols = 0, depth = 0;
  int64_t out_stride = 0, x_stride = 0, w_stride = 0;  // from row to row
  int64_t batch = 1;
  int64_t out_batch = 0, x_batch = 0, w_batch = 0;  // from product to product
  bool add = false;
  const float* bias = nullptr;  // [cols], optional
  ElementType out_type = ElementType::kF32;
  const uint16_t* bias_bf16 = nullptr;  // of a bfloat16 out: [cols], optional
  bool gelu = false;                    // of a bfloat16 out: its tanh form
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceProperties& properties() const = 0;
  virtual bool is_software() const { return false; }
  virtual Stream stream() const = 0;
  virtual int64_t free_memory() const = 0;  // bytes, of every process's

  // 256-byte aligned. Never inside a step that was warmed up: allocation waits for the device.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory) noexcept = 0;

  // The source may be changed as soon as upload returns: it has been copied to pinned memory, or to the device.
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  virtual void download(void* to, const void* from, size_t bytes) = 0;  // waits until the bytes are there
  virtual void copy(void* to, const void* from, size_t bytes) = 0;      // inside the device
  virtual void clear(void* memory, size_t bytes) = 0;                   // to zeros
  // Rows of `width` bytes, `pitch` bytes apart on either side.
  virtual void upload_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                           size_t rows) = 0;
  virtual void download_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                             size_t rows) = 0;

  // False: the library has no such product with a bias, and the bias is still to be added; of a bfloat16 out, that
  // nothing was done.
  [[nodiscard]] virtual bool gemm(const Gemm& product) = 0;

  // Between the two nothing is done, only recorded; memory that is released meanwhile is freed afterwards. What must
  // wait, copy to or from the host or allocate throws CannotRecord before it has changed anything. The caller ends
  // every recording, whatever was thrown; end gives nullptr where the device could not record after all.
  virtual void begin_recording() = 0;
  virtual std::unique_ptr<Recording> end_recording() = 0;
  virtual void replay(Recording& recording) = 0;

  // Waits for all work; throws what a kernel did wrong.
  virtual void synchronize() = 0;
};

int device_count();                 // 0 where there is no driver either
bool device_is_usable(int number);  // it is there, and kernels run on it
std::unique_ptr<Device> open_device(int number);
int64_t free_memory_of(int number);  // bytes, without opening it

// Memory of a device that goes back with its owner. The Device must outlive it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(Device& device, size_t bytes) : device_(&device), data_(device.allocate(bytes)), bytes_(bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) device_->release(data_);
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace vl2::cuda
