#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "core/image/decode.h"
#include "core/image/test_images.h"
#include "core/image/test_png.h"

namespace vl2 {
namespace {

Image decode(const std::string& bytes, const DecodeOptions& options = {}) {
  return decode_image(std::as_bytes(std::span(bytes)), "test.png", options);
}

std::vector<uint32_t> noise_samples(const TestPng& png, uint32_t limit) {
  const Image noise =
      noise_image("png", static_cast<int64_t>(png.width * png.channels()), static_cast<int64_t>(png.height));
  std::vector<uint32_t> samples;
  for (size_t i = 0; i < png.width * png.height * png.channels(); ++i)
    samples.push_back((static_cast<uint32_t>(noise.rgb[2 * i]) << 8 | noise.rgb[2 * i + 1]) % limit);
  return samples;
}

// What Pillow 9.4's convert("RGB") makes of the samples of one pixel.
std::vector<uint8_t> expected_pixel(const TestPng& png, const uint32_t* s) {
  const auto byte = [](uint32_t v) { return static_cast<uint8_t>(v); };
  if (png.colour == 3) {
    if (3 * s[0] + 2 >= png.palette.size()) return std::vector<uint8_t>(3, byte(s[0]));
    return {byte(png.palette[3 * s[0]]), byte(png.palette[3 * s[0] + 1]), byte(png.palette[3 * s[0] + 2])};
  }
  const int drop = png.depth == 16 ? 8 : 0;
  if (png.colour == 2 || png.colour == 6) return {byte(s[0] >> drop), byte(s[1] >> drop), byte(s[2] >> drop)};
  if (png.colour == 4) return std::vector<uint8_t>(3, byte(s[0] >> drop));
  if (png.depth == 16) return std::vector<uint8_t>(3, byte(std::min(s[0], 255u)));
  return std::vector<uint8_t>(3, byte(s[0] * (255 / ((1u << png.depth) - 1))));
}

TEST(DecodePng, ReadsEveryModeAsPillowDoes) {
  const std::pair<int, std::vector<int>> modes[] = {
      {0, {1, 2, 4, 8, 16}}, {2, {8, 16}}, {3, {1, 2, 4, 8}}, {4, {8, 16}}, {6, {8, 16}}};
  for (const auto& [colour, depths] : modes) {
    for (const int depth : depths) {
      for (const bool interlaced : {false, true}) {
        for (const auto& [width, height] : {std::pair<size_t, size_t>{1, 1}, {5, 3}, {13, 17}, {2, 9}, {33, 8}}) {
          TestPng png{width, height, colour, depth, interlaced, {}, png_chunk("gAMA", big_endian(100000, 4)), "", ""};
          png.samples = noise_samples(png, 1u << depth);
          if (colour == 3) png.palette = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV";  // 16 entries
          if (colour == 3 && depth < 4) png.palette.resize(3u << depth);
          const Image image = decode(png.bytes());
          ASSERT_EQ(image.rgb.size(), width * height * 3);
          for (size_t i = 0; i < width * height; ++i) {
            const std::vector<uint8_t> got(image.rgb.begin() + 3 * i, image.rgb.begin() + 3 * i + 3);
            ASSERT_EQ(got, expected_pixel(png, png.samples.data() + i * png.channels()))
                << "colour " << colour << " depth " << depth << " interlaced " << interlaced << " " << width << "x"
                << height << " pixel " << i;
          }
        }
      }
    }
  }
}

TEST(DecodePng, DropsAlphaOrPutsItOverTheBackground) {
  const DecodeOptions over{.background = {{100, 100, 100}}};
  const std::vector<uint8_t> hidden{9, 8, 7}, shown{100, 100, 100};
  const TestPng rgba{1, 1, 6, 8, false, {9, 8, 7, 0}, "", "", ""};
  EXPECT_EQ(decode(rgba.bytes()).rgb, hidden);
  EXPECT_EQ(decode(rgba.bytes(), over).rgb, shown);
  const TestPng half{1, 1, 4, 8, false, {200, 128}, "", "", ""};
  EXPECT_EQ(decode(half.bytes(), over).rgb, std::vector<uint8_t>(3, (200 * 128 + 100 * 127 + 127) / 255));
  const TestPng palette{
      2, 1, 3, 1, false, {0, 1}, "", std::string("\x09\x08\x07\x01\x02\x03", 6), std::string(1, '\0')};
  EXPECT_EQ(decode(palette.bytes()).rgb, (std::vector<uint8_t>{9, 8, 7, 1, 2, 3}));
  EXPECT_EQ(decode(palette.bytes(), over).rgb, (std::vector<uint8_t>{100, 100, 100, 1, 2, 3}));
  const TestPng grey_key{2, 1, 0, 4, false, {5, 6}, "", "", big_endian(5, 2)};
  EXPECT_EQ(decode(grey_key.bytes()).rgb, (std::vector<uint8_t>{85, 85, 85, 102, 102, 102}));
  EXPECT_EQ(decode(grey_key.bytes(), over).rgb, (std::vector<uint8_t>{100, 100, 100, 102, 102, 102}));
  const TestPng rgb_key{2, 1, 2, 16, true, {0x0102, 2, 3, 0x0103, 2, 3}, "", "", big_endian(0x010200020003, 6)};
  EXPECT_EQ(decode(rgb_key.bytes(), over).rgb, (std::vector<uint8_t>{100, 100, 100, 1, 0, 0}));
  const TestPng rgba16{1, 1, 6, 16, false, {0x0900, 0x0800, 0x0700, 0x00FF}, "", "", ""};
  EXPECT_EQ(decode(rgba16.bytes(), over).rgb, shown);
}

TEST(DecodePng, IgnoresAncillaryChunksEvenDamagedOnes) {
  TestPng png{2, 2, 0, 8, false, {1, 2, 3, 4}, "", "", ""};
  const auto expected = decode(png.bytes()).rgb;
  std::string broken = png_chunk("tEXt", "a");
  broken.back() = static_cast<char>(broken.back() ^ 1);
  png.extra_chunks = broken + png_chunk("iCCP", std::string(100, 'x')) +
                     png_chunk("zTXt", std::string("a\0\0junk", 7)) + png_chunk("pHYs", "") +
                     png_chunk("abCd", "private");
  EXPECT_EQ(decode(png.bytes()).rgb, expected);
}

TEST(DecodePng, RefusesDamagedPicturesWithTheReason) {
  const TestPng png{20, 20, 2, 8, false, std::vector<uint32_t>(1200, 77), "", "", ""};
  const std::string good = png.bytes();
  const auto error_of = [](const std::string& bytes) -> std::string {
    try {
      decode(bytes);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  std::string bad = good;
  bad[good.find("IDAT") + 600] ^= 1;
  EXPECT_NE(error_of(bad).find("IDAT"), std::string::npos) << error_of(bad);
  bad = good;
  bad[17] ^= 1;  // the CRC of the header
  EXPECT_NE(error_of(bad).find("CRC"), std::string::npos) << error_of(bad);
  EXPECT_NE(error_of(good.substr(0, good.size() / 2)).find("truncated"), std::string::npos);
  EXPECT_NE(error_of(good.substr(0, 20)).find("truncated"), std::string::npos);
  const std::string no_palette = TestPng{1, 1, 3, 8, false, {0}, "", "", ""}.bytes();
  EXPECT_NE(error_of(no_palette).find("PLTE"), std::string::npos);
  const std::string odd_depth = TestPng{1, 1, 2, 4, false, {0, 0, 0}, "", "", ""}.bytes();
  EXPECT_NE(error_of(odd_depth).find("damaged PNG"), std::string::npos);
  // Too few rows in the compressed data.
  TestPng tall = png;
  tall.height = 10;
  const std::string body = tall.bytes().substr(tall.signature_and_header().size());
  EXPECT_NE(error_of(png.signature_and_header() + body).find("damaged PNG"), std::string::npos);
}

TEST(DecodePng, ReadsAFileWhoseEndMarkerIsMissing) {
  const TestPng png{3, 1, 0, 8, false, {1, 2, 3}, "", "", ""};
  const std::string bytes = png.bytes();
  EXPECT_EQ(decode(bytes.substr(0, bytes.size() - 12)).rgb, decode(bytes).rgb);
}

}  // namespace
}  // namespace vl2
