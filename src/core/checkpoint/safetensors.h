// Reader and writer of one safetensors file: u64 header length, JSON header, raw little-endian data.
//
// The reader maps the file and checks every limit of the format before anything is read through it: header size,
// duplicate names, dtypes, shapes whose product overflows, offsets out of range, overlapping or with holes, size
// against dtype x shape.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/base/tensor_view.h"

namespace vl2 {

// Owns the mapping; the views die with it. Immutable after opening: any thread may read.
//
// Every view is aligned to its element size. Files of other writers may place a tensor elsewhere; such a tensor is
// copied into memory when the file is opened.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);  // kNotFound, kIo, kCorrupt, kUnsupported (a dtype)

  const TensorView* find(const std::string& name) const;  // nullptr: absent
  const TensorView& at(const std::string& name) const;    // kNotFound
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }

  // As MappedFile::release, for one of this file's views; a tensor that was copied stays.
  void release(const TensorView& tensor) const;

 private:
  void align(TensorView& tensor);

  MappedFile file_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::unique_ptr<std::byte[]>> copies_;
};

struct NamedTensor {
  std::string name;
  TensorView tensor;
};

// Atomic (temporary file, fsync, rename). Data starts at a multiple of 64 bytes; tensors keep the given order, without
// gaps as the format demands: put wide element types first. kInvalidArgument for duplicate or reserved names.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

// A tensor before its values exist.
struct TensorHeader {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
};

// The same for tensors too large to hold together: fill(header, bytes) is called for each in order, `bytes` is zeroed.
using FillTensor = std::function<void(const TensorHeader&, std::span<std::byte>)>;
void write_safetensors(const std::filesystem::path& path, std::span<const TensorHeader> headers, const FillTensor& fill,
                       const std::map<std::string, std::string>& metadata = {});

// Bytes of a tensor's data; kInvalidArgument for negative sizes or a product that overflows.
size_t checked_num_bytes(const TensorHeader& header);

}  // namespace vl2
