// Activations: float32 views into a Workspace. A Tensor never owns memory and is free to copy.
//
// The memory is the backend's, and no host pointer where the backend computes on a device: whoever is not the backend
// fills and reads tensors with Ops::upload and Ops::download.
//
// rows x heads x cols, the last dimension contiguous; plain matrices have heads == 1. Names in model code carry the
// shape: T tokens, D hidden size, H heads, and so on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace vl2 {

struct Tensor {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t heads = 1;
  int64_t cols = 0;
  int64_t row_stride = 0;   // in elements
  int64_t head_stride = 0;  // in elements

  float* row(int64_t r) const { return data + r * row_stride; }
  float* at(int64_t r, int64_t head) const { return data + r * row_stride + head * head_stride; }
  int64_t size() const { return rows * heads * cols; }
  bool contiguous() const { return (heads == 1 || head_stride == cols) && (rows <= 1 || row_stride == heads * cols); }

  // [T, H * D] seen as [T, H, D].
  Tensor split_heads(int64_t num_heads) const {
    VL2_CHECK(heads == 1 && cols % num_heads == 0, "{} columns do not split into {} heads", cols, num_heads);
    return {data, rows, num_heads, cols / num_heads, row_stride, cols / num_heads};
  }
  // Columns [begin, begin + count) of every row and head.
  Tensor columns(int64_t begin, int64_t count) const {
    VL2_CHECK(begin >= 0 && count >= 0 && begin + count <= cols);
    return {data + begin, rows, heads, count, row_stride, head_stride};
  }
  Tensor row_range(int64_t begin, int64_t count) const {
    VL2_CHECK(begin >= 0 && count >= 0 && begin + count <= rows);
    return {row(begin), count, heads, cols, row_stride, head_stride};
  }
};

// Where a Workspace's chunks come from: the host, or a device. Used by one thread at a time.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual std::byte* allocate(size_t bytes) = 0;  // uninitialised, 64-byte aligned; kOutOfMemory
  // What was queued before may still be using it: a device frees behind that.
  virtual void release(std::byte* memory, size_t bytes) noexcept = 0;
  virtual bool on_host() const = 0;  // its pointers may be followed by the host
};
std::shared_ptr<MemorySource> host_memory();

// Arena of activations. Memory taken inside a Scope is given back, for reuse, when the Scope ends; it returns to the
// system only with the Workspace. One thread at a time.
class Workspace {
 public:
  explicit Workspace(std::shared_ptr<MemorySource> source = host_memory()) : source_(std::move(source)) {}
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  const std::shared_ptr<MemorySource>& source() const { return source_; }

  class Scope {
   public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), chunk_(workspace.chunk_), used_(workspace.used_) {}
    ~Scope() {
      workspace_.chunk_ = chunk_;
      workspace_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Workspace& workspace_;
    size_t chunk_;
    size_t used_;
  };

  Tensor tensor(int64_t rows, int64_t cols) {
    VL2_CHECK(rows >= 0 && cols >= 0);
    return {
        reinterpret_cast<float*>(bytes(static_cast<size_t>(rows * cols) * sizeof(float))), rows, 1, cols, cols, cols};
  }
  template <typename T>
  std::span<T> array(int64_t count) {
    return {reinterpret_cast<T*>(bytes(static_cast<size_t>(count) * sizeof(T))), static_cast<size_t>(count)};
  }
  std::byte* bytes(size_t count);               // uninitialised, 64-byte aligned
  size_t capacity() const;                      // bytes held
  int64_t changes() const { return changes_; }  // times its chunks became others

 private:
  struct Chunk {
    std::byte* memory;
    size_t size;
  };
  void drop_chunks(size_t kept);

  const std::shared_ptr<MemorySource> source_;
  std::vector<Chunk> chunks_;
  size_t chunk_ = 0;  // chunk in use
  size_t used_ = 0;   // bytes used in it
  int64_t changes_ = 0;
};

}  // namespace vl2
