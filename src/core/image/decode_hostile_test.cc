// Files that lie, break off or are no pictures: each must end in a vl2::Error that says so, or in a picture of the
// right size.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/image/decode.h"
#include "core/image/encode.h"
#include "core/image/test_files.h"
#include "core/image/test_headers.h"
#include "core/image/test_images.h"
#include "core/image/test_png.h"

namespace vl2 {
namespace {

using std::string_literals::operator""s;

struct Outcome {
  std::optional<ErrorCode> code;  // empty: decoded
  std::string message;
};

Outcome decode(std::string_view bytes, const DecodeOptions& options = {}) {
  try {
    const Image image = decode_image(std::as_bytes(std::span(bytes)), "hostile", options);
    check_image(image);
    EXPECT_LE(image.width * image.height, options.max_pixels);
    return {};
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
}

TEST(DecodeHostile, RefusesHugePicturesFromTheHeaderAlone) {
  for (const HeaderFile& header : header_files(60000, 60000)) {
    const Outcome outcome = decode(header.bytes);
    EXPECT_EQ(outcome.code, ErrorCode::kInvalidArgument) << header.name << ": " << outcome.message;
    EXPECT_NE(outcome.message.find("60000 x 60000 pixels is above the limit of 178956970"), std::string::npos)
        << header.name << ": " << outcome.message;
  }
  EXPECT_EQ(decode(header_files(0x7FFFFFFF, 0x7FFFFFFF)[0].bytes).code, ErrorCode::kInvalidArgument);  // PNG
  EXPECT_EQ(decode(header_files(0x7FFFFFFF, 0x7FFFFFFF)[2].bytes).code, ErrorCode::kInvalidArgument);  // BMP
  EXPECT_EQ(decode(header_files(1, 0x80000000)[2].bytes).code, ErrorCode::kInvalidArgument);  // INT_MIN, top down
}

TEST(DecodeHostile, RefusesPicturesWithoutPixels) {
  for (const auto& [width, height] : {std::pair<uint32_t, uint32_t>{0, 5}, {5, 0}, {0, 0}}) {
    const auto files = header_files(width, height);
    for (size_t i = 0; i < 4; ++i)  // WebP cannot say 0
      EXPECT_TRUE(decode(files[i].bytes).code) << files[i].name << " " << width << " x " << height;
  }
}

TEST(DecodeHostile, RefusesHeadersWithoutTheirPixels) {
  for (const HeaderFile& header : header_files(1000, 1000)) {
    const Outcome outcome = decode(header.bytes);
    EXPECT_EQ(outcome.code, ErrorCode::kCorrupt) << header.name << ": " << outcome.message;
  }
}

TEST(DecodeHostile, HonoursTheCallersPixelLimitExactly) {
  for (const TestFile& file : kTestFiles) {
    const int64_t pixels = file.width * file.height;
    EXPECT_FALSE(decode(file.bytes(), {.max_pixels = pixels}).code) << file.name;
    EXPECT_EQ(decode(file.bytes(), {.max_pixels = pixels - 1}).code, ErrorCode::kInvalidArgument) << file.name;
  }
}

std::vector<HeaderFile> all_files() {
  std::vector<HeaderFile> files;
  for (const TestFile& file : kTestFiles) files.push_back({file.name.data(), file.bytes()});
  files.push_back({"png", encode_png(noise_image("hostile", 9, 7))});
  files.push_back(
      {"png_interlaced", TestPng{9, 7, 3, 4, true, std::vector<uint32_t>(63, 5), "", "abcdefghi", "xyz"}.bytes()});
  files.push_back({"jpeg", encode_jpeg(noise_image("hostile", 20, 9))});
  std::string bmp = header_files(3, 2)[2].bytes + std::string(24, 'x');
  files.push_back({"bmp", bmp});
  bmp[28] = 8;  // run lengths: two runs of three, end
  bmp[30] = 1;
  bmp[46] = 2;
  bmp[10] = 62;
  files.push_back({"bmp_rle", bmp.substr(0, 62) + "\x03\x01\x00\x00\x03\x00\x00\x01"s});
  return files;
}

TEST(DecodeHostile, ReadsItsOwnSamples) {
  for (const HeaderFile& file : all_files()) EXPECT_EQ(decode(file.bytes).message, "") << file.name;
}

TEST(DecodeHostile, SurvivesEveryTruncation) {
  for (const HeaderFile& file : all_files()) {
    for (size_t size = 0; size < file.bytes.size(); ++size) {
      // A copy of exactly this size, so that a sanitizer sees a read past the end.
      const std::vector<char> part(file.bytes.begin(), file.bytes.begin() + static_cast<ptrdiff_t>(size));
      const Outcome outcome = decode({part.data(), part.size()});
      // A PNG is complete before its last chunk and a JPEG before its last two bytes.
      const bool may_be_whole = size + 20 >= file.bytes.size();
      EXPECT_TRUE(outcome.code || may_be_whole) << file.name << " cut to " << size;
    }
  }
}

TEST(DecodeHostile, SurvivesDamagedBytes) {
  Random random(7);
  for (const HeaderFile& file : all_files()) {
    for (int round = 0; round < 300; ++round) {
      std::vector<char> bytes(file.bytes.begin(), file.bytes.end());
      const auto size = static_cast<int64_t>(bytes.size());
      const int64_t changes = 1 + random.below(4);
      for (int64_t i = 0; i < changes; ++i)
        bytes[static_cast<size_t>(random.below(size))] =
            static_cast<char>(random.below(4) == 0 ? 0xFF : random.below(256));
      DecodeOptions options{.max_pixels = 1 << 20, .auto_orient = round % 2 == 0};
      if (round % 3 == 0) options.background = {{1, 2, 3}};
      decode({bytes.data(), bytes.size()}, options);  // either outcome; no crash, and within the limit
    }
  }
}

TEST(DecodeHostile, RefusesAJpegOfThousandsOfScans) {
  const TestFile* progressive = nullptr;
  for (const TestFile& file : kTestFiles)
    if (file.name == "jpeg_progressive") progressive = &file;
  ASSERT_NE(progressive, nullptr);
  std::string bytes = progressive->bytes();
  const size_t scan = bytes.rfind("\xFF\xDA");
  const std::string last = bytes.substr(scan, bytes.size() - 2 - scan);
  bytes.resize(bytes.size() - 2);
  for (int i = 0; i < 600; ++i) bytes += last;
  const Outcome outcome = decode(bytes + "\xFF\xD9");
  EXPECT_EQ(outcome.code, ErrorCode::kCorrupt);
  EXPECT_NE(outcome.message.find("more than 500 scans"), std::string::npos) << outcome.message;
}

TEST(DecodeHostile, RefusesATruncatedJpegAsPillowDoes) {
  const std::string bytes = encode_jpeg(noise_image("hostile", 100, 80));
  const Outcome outcome = decode(bytes.substr(0, bytes.size() / 2));
  EXPECT_EQ(outcome.code, ErrorCode::kCorrupt);
  EXPECT_NE(outcome.message.find("truncated"), std::string::npos) << outcome.message;
}

}  // namespace
}  // namespace vl2
