// A folder that appears under its name only when it is whole.
#pragma once

#include <filesystem>

namespace vl2 {

class OutputFolder {
 public:
  // Makes an empty folder beside `target`. `target` must be absent or an empty folder, or with `replace` a folder with
  // a config.json. kInvalidArgument, kIo.
  OutputFolder(const std::filesystem::path& target, bool replace);
  ~OutputFolder();  // removes it, unless kept
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void keep();  // gives it its name, in place of what stood there

 private:
  std::filesystem::path target_, path_;
  bool kept_ = false;
};

}  // namespace vl2
