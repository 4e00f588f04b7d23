// A file of training records, read one by one wherever they lie: JSON Lines, or one JSON array.
//
// Opening maps the file and notes where each record begins, 16 bytes a record; records are parsed when they are read.
// Owns the mapping. Immutable once open: any thread may read. The file must stay as it is while it is open: bytes that
// vanish under a mapping end the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/mapped_file.h"
#include "core/dataset/record_parser.h"
#include "core/dataset/training_record.h"

namespace vl2 {

struct DatasetOptions {
  std::optional<RecordFormat> format = std::nullopt;  // absent: each record's keys tell
  std::filesystem::path image_root = {};              // empty: the folder of the file
  size_t max_record_bytes = size_t{64} << 20;
};

class DatasetFile {
 public:
  // kNotFound, kIo. What the file holds is no error here: records that are none are found when they are read.
  explicit DatasetFile(const std::filesystem::path& path, const DatasetOptions& options = {});

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  const std::filesystem::path& path() const { return file_.path(); }

  // 0 <= index < size(). `where` of the result is "FILE:LINE", the line the record begins in.
  std::variant<TrainingRecord, BadRecord> read(int64_t index) const;
  std::string where(int64_t index) const;

 private:
  struct Entry {
    uint64_t begin;
    uint32_t length;  // 0: the array is not closed; 2^32 - 1: at least so long
    uint32_t line;    // from 1
  };
  void add(size_t begin, size_t end, size_t line);
  void index_lines(size_t begin);
  void index_array(size_t begin, size_t line);

  MappedFile file_;
  DatasetOptions options_;
  std::vector<Entry> entries_;
};

}  // namespace vl2
