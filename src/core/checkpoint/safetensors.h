// Reader and writer of one safetensors file: u64 header length, JSON header, raw little-endian data.
//
// The reader maps the file and checks every limit of the format before anything is read through it: header size, duplicate
// names, dtypes, shapes whose product overflows, offsets out of range, overlapping or with holes, size against dtype x shape.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/base/tensor_view.h"

namespace vl2 {

// Owns the mapping; the views die with it. Immutable after opening: any thread may read.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);  // kNotFound, kIo, kCorrupt

  const TensorView* find(const std::string& name) const;  // nullptr: absent
  const TensorView& at(const std::string& name) const;    // kNotFound
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_.path(); }
  const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct NamedTensor {
  std::string name;
  TensorView tensor;
};

// Atomic (temporary file, fsync, rename). Data starts at a multiple of 64 bytes; tensors keep the given order.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace vl2
