#include "train/log/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "core/base/error.h"
#include "core/image/encode.h"
#include "train/log/crc32c.h"

namespace vl2::train {
namespace {

// Field numbers of tensorflow/core/util/event.proto and framework/summary.proto.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField { kValue = 1 };
enum ValueField { kTag = 1, kSimpleValue = 2, kImage = 4 };
enum ImageField { kHeight = 1, kWidth = 2, kColorspace = 3, kEncodedImage = 4 };
enum SessionLogField { kStatus = 1 };
constexpr uint64_t kStatusStart = 1, kRgb = 3;

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>((value & 0x7f) | 0x80));
  out.push_back(static_cast<char>(value));
}

template <typename T>
void put_little_endian(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

void put_key(std::string& out, int field, uint32_t wire_type) {
  put_varint(out, (static_cast<uint32_t>(field) << 3) | wire_type);
}
void put_integer(std::string& out, int field, uint64_t value) {
  put_key(out, field, 0);
  put_varint(out, value);
}
void put_double(std::string& out, int field, double value) {
  put_key(out, field, 1);
  put_little_endian(out, std::bit_cast<uint64_t>(value));
}
void put_float(std::string& out, int field, float value) {
  put_key(out, field, 5);
  put_little_endian(out, std::bit_cast<uint32_t>(value));
}
void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_key(out, field, 2);
  put_varint(out, bytes.size());
  out += bytes;
}

double seconds_since_epoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

std::string framed(std::string_view record) {
  std::string out;
  put_little_endian(out, static_cast<uint64_t>(record.size()));
  put_little_endian(out, masked_crc32c(std::as_bytes(std::span(out))));
  out += record;
  put_little_endian(out, masked_crc32c(std::as_bytes(std::span(record))));
  return out;
}

}  // namespace

EventWriter::EventWriter(const std::filesystem::path& folder, int64_t resumed_step) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail(ErrorCode::kIo, "{}: cannot create the folder: {}", folder.string(), error.message());
  // Two runs in one second, as a quick resume is, get two files.
  for (auto seconds = static_cast<int64_t>(seconds_since_epoch()); file_.fd < 0; ++seconds) {
    path_ = folder / fmt::format("events.out.tfevents.{:010}.{}.{}", seconds, host_name(), ::getpid());
    file_.fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (file_.fd < 0 && errno != EEXIST)
      fail(ErrorCode::kIo, "{}: cannot create: {}", path_.string(), std::strerror(errno));
  }
  std::string version;
  put_bytes(version, kFileVersion, "brain.Event:2");
  write_event(0, version);
  if (resumed_step == 0) return;
  std::string session, fields;
  put_integer(session, kStatus, kStatusStart);
  put_bytes(fields, kSessionLog, session);
  write_event(resumed_step + 1, fields);  // events of this step and later ones are void
}

EventWriter::Descriptor::~Descriptor() {
  if (fd >= 0) ::close(fd);
}

void EventWriter::scalars(int64_t step, const std::vector<Scalar>& values) {
  std::string summary, fields;
  for (const Scalar& scalar : values) {
    std::string value;
    put_bytes(value, kTag, scalar.tag);
    put_float(value, kSimpleValue, static_cast<float>(scalar.value));
    put_bytes(summary, kValue, value);
  }
  put_bytes(fields, kSummary, summary);
  write_event(step, fields);
}

void EventWriter::image(int64_t step, const std::string& tag, const Image& image) {
  std::string picture, value, summary, fields;
  put_integer(picture, kHeight, static_cast<uint64_t>(image.height));
  put_integer(picture, kWidth, static_cast<uint64_t>(image.width));
  put_integer(picture, kColorspace, kRgb);
  put_bytes(picture, kEncodedImage, encode_png(image));
  put_bytes(value, kTag, tag);
  put_bytes(value, kImage, picture);
  put_bytes(summary, kValue, value);
  put_bytes(fields, kSummary, summary);
  write_event(step, fields);
}

void EventWriter::write_event(int64_t step, std::string_view fields) {
  std::string event;
  put_double(event, kWallTime, seconds_since_epoch());
  if (step != 0) put_integer(event, kStep, static_cast<uint64_t>(step));
  event += fields;
  const std::string record = framed(event);
  std::string_view left = record;
  while (!left.empty()) {
    const ssize_t n = ::write(file_.fd, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      fail(ErrorCode::kIo, "{}: cannot write: {}; choose a folder that has space", path_.string(),
           std::strerror(errno));
    left.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace vl2::train
