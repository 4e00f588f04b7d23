// log.jsonl of a run: one JSON object a line, one line a logged step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace vl2::train {

// Owns the open file. One thread.
class JsonLog {
 public:
  // Appends to the file, which is created. `resumed_step`: lines of later steps, which a checkpoint does not know, and
  // a last line without its end are cut off first; 0 for a new run empties the file. kIo.
  JsonLog(const std::filesystem::path& path, int64_t resumed_step);
  ~JsonLog();
  JsonLog(const JsonLog&) = delete;
  JsonLog& operator=(const JsonLog&) = delete;

  // One line, written when the call returns. `object` has an integer "step"; numbers that are not finite become null.
  // kIo: the line is not in the file.
  void write(const nlohmann::ordered_json& object);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

// One key of a log over the steps.
struct LogSeries {
  std::string name;
  std::vector<double> steps, values;  // of the same length; values are finite
};

// The numbers under `key` ("loss"). Lines without it, or where it is null, are passed over. `name`: of the series.
// kCorrupt: a line that is no object with a step, named by its number; a last line without its end is ignored.
LogSeries read_log(const std::filesystem::path& path, const std::string& key, const std::string& name);

}  // namespace vl2::train
