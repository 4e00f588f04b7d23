#include "train/log/tensorboard.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <span>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/image/decode.h"
#include "train/log/crc32c.h"

namespace vl2::train {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// A second implementation, bit by bit and without a table.
uint32_t slow_masked_crc(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      const uint32_t in = (static_cast<unsigned char>(c) >> bit) & 1u;
      const bool carry = ((crc ^ in) & 1u) != 0;
      crc >>= 1;
      if (carry) crc ^= 0x82f63b78u;
    }
  crc = ~crc;
  return std::rotr(crc, 15) + 0xa282ead8u;
}

// What the standard's tables (RFC 3720, B.4) say.
TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c(bytes_of(std::string(32, '\0'))), 0x8a9136aau);
  EXPECT_EQ(crc32c(bytes_of(std::string(32, '\xff'))), 0x62a8ab43u);
  EXPECT_EQ(crc32c({}), 0u);
  EXPECT_EQ(masked_crc32c(bytes_of("123456789")), slow_masked_crc("123456789"));
}

// A protobuf message as field number -> values in order; varints and fixed ones as their bits.
struct Message {
  std::map<int, std::vector<uint64_t>> numbers;
  std::map<int, std::vector<std::string>> texts;
};

uint64_t take_varint(std::string_view& in) {
  uint64_t value = 0;
  for (int shift = 0; !in.empty() && shift < 64; shift += 7) {
    const auto byte = static_cast<unsigned char>(in.front());
    in.remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  throw std::runtime_error("a varint without an end");
}

uint64_t take_fixed(std::string_view& in, size_t size) {
  if (in.size() < size) throw std::runtime_error("a number without its end");
  uint64_t value = 0;
  std::memcpy(&value, in.data(), size);
  in.remove_prefix(size);
  return value;
}

Message parse(std::string_view in) {
  Message message;
  while (!in.empty()) {
    const uint64_t key = take_varint(in);
    const int field = static_cast<int>(key >> 3);
    switch (key & 7) {
      case 0:
        message.numbers[field].push_back(take_varint(in));
        break;
      case 1:
        message.numbers[field].push_back(take_fixed(in, 8));
        break;
      case 5:
        message.numbers[field].push_back(take_fixed(in, 4));
        break;
      case 2: {
        const uint64_t size = take_varint(in);
        if (size > in.size()) throw std::runtime_error("a text without its end");
        message.texts[field].emplace_back(in.substr(0, size));
        in.remove_prefix(size);
        break;
      }
      default:
        throw std::runtime_error("a wire type that is not written");
    }
  }
  return message;
}

std::vector<Message> read_events(const std::filesystem::path& path) {
  const std::string file = read_file(path);
  std::string_view in = file;
  std::vector<Message> events;
  while (!in.empty()) {
    const std::string_view length_bytes = in.substr(0, 8);
    const uint64_t length = take_fixed(in, 8);
    EXPECT_EQ(take_fixed(in, 4), slow_masked_crc(length_bytes));
    const std::string_view record = in.substr(0, length);
    in.remove_prefix(std::min(in.size(), length));
    EXPECT_EQ(take_fixed(in, 4), slow_masked_crc(record));
    events.push_back(parse(record));
  }
  return events;
}

float float_of(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

TEST(EventWriter, AnIndependentReaderFindsVersionScalarsAndPictures) {
  const TempFolder temp;
  EventWriter writer(temp / "tb", 0);
  writer.scalars(1, {{"train/loss", 2.5}, {"train/learning_rate", 1e-4}});
  Image image = make_image(5, 3, 10, 20, 30);
  image.row(1)[6] = 200;
  writer.image(300, "answers/0", image);

  const std::string name = writer.path().filename().string();
  EXPECT_TRUE(name.starts_with("events.out.tfevents.")) << name;
  EXPECT_TRUE(name.ends_with(fmt::format(".{}", ::getpid()))) << name;
  const std::vector<Message> events = read_events(writer.path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].texts.at(3), std::vector<std::string>{"brain.Event:2"});
  const double time = std::bit_cast<double>(events[0].numbers.at(1).at(0));
  EXPECT_NEAR(time, static_cast<double>(::time(nullptr)), 60);

  EXPECT_EQ(events[1].numbers.at(2), std::vector<uint64_t>{1});
  const Message summary = parse(events[1].texts.at(5).at(0));
  ASSERT_EQ(summary.texts.at(1).size(), 2u);
  const Message loss = parse(summary.texts.at(1)[0]), rate = parse(summary.texts.at(1)[1]);
  EXPECT_EQ(loss.texts.at(1).at(0), "train/loss");
  EXPECT_EQ(float_of(loss.numbers.at(2).at(0)), 2.5f);
  EXPECT_EQ(rate.texts.at(1).at(0), "train/learning_rate");
  EXPECT_EQ(float_of(rate.numbers.at(2).at(0)), 1e-4f);

  EXPECT_EQ(events[2].numbers.at(2), std::vector<uint64_t>{300});  // a varint of two bytes
  const Message value = parse(parse(events[2].texts.at(5).at(0)).texts.at(1).at(0));
  EXPECT_EQ(value.texts.at(1).at(0), "answers/0");
  const Message picture = parse(value.texts.at(4).at(0));
  EXPECT_EQ(picture.numbers.at(1).at(0), 3u);
  EXPECT_EQ(picture.numbers.at(2).at(0), 5u);
  EXPECT_EQ(picture.numbers.at(3).at(0), 3u);
  EXPECT_EQ(decode_image(bytes_of(picture.texts.at(4).at(0)), "the picture").rgb, image.rgb);
}

TEST(EventWriter, AResumedRunVoidsLaterStepsAndWritesAFileOfItsOwn) {
  const TempFolder temp;
  EventWriter first(temp.path(), 0);
  EventWriter second(temp.path(), 40);
  EXPECT_NE(first.path(), second.path());
  const std::vector<Message> events = read_events(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].numbers.at(2).at(0), 41u);
  EXPECT_EQ(parse(events[1].texts.at(7).at(0)).numbers.at(1).at(0), 1u);  // SessionLog.START
}

TEST(EventWriter, AFolderThatCannotBeIsAnError) {
  const TempFolder temp;
  write_file_atomic(temp / "file", "");
  EXPECT_THROW(EventWriter(temp / "file/tb", 0), Error);
}

}  // namespace
}  // namespace vl2::train
