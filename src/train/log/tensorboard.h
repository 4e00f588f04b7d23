// Event files as TensorBoard reads them: TFRecord framing around protobuf messages, both written by hand, since the few
// fields used do not justify either library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/image/image.h"

namespace vl2::train {

struct Scalar {
  std::string tag;  // "train/loss"
  double value = 0;
};

// Owns one open file, FOLDER/events.out.tfevents.SECONDS.HOST.PID. One thread.
class EventWriter {
 public:
  // The folder is created. `resumed_step` above 0: what older files of the folder say of later steps is void, and
  // TensorBoard is told so. kIo.
  EventWriter(const std::filesystem::path& folder, int64_t resumed_step);
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  // In the file when the call returns. kIo.
  void scalars(int64_t step, const std::vector<Scalar>& values);
  void image(int64_t step, const std::string& tag, const Image& image);  // as PNG

  const std::filesystem::path& path() const { return path_; }

 private:
  struct Descriptor {
    int fd = -1;
    ~Descriptor();
  };

  void write_event(int64_t step, std::string_view fields);

  std::filesystem::path path_;
  Descriptor file_;
};

}  // namespace vl2::train
