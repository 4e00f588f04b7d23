#include "core/image/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/test_data.h"
#include "core/checkpoint/safetensors.h"
#include "core/image/encode.h"
#include "core/image/test_files.h"
#include "core/image/test_images.h"
#include "core/image/tiling.h"

namespace vl2 {
namespace {

constexpr int64_t kTileSize = 384;

Image decode(std::string_view bytes, const DecodeOptions& options = {}) {
  return decode_image(std::as_bytes(std::span(bytes)), "test picture", options);
}

const TestFile& test_file(std::string_view name) {
  return *std::find_if(std::begin(kTestFiles), std::end(kTestFiles), [&](const TestFile& f) { return f.name == name; });
}

std::vector<std::string> tile_hashes(const std::vector<uint8_t>& tiles) {
  constexpr size_t kTileBytes = kTileSize * kTileSize * 3;
  std::vector<std::string> hashes;
  for (size_t at = 0; at < tiles.size(); at += kTileBytes)
    hashes.push_back(pixel_sha256(std::span(tiles).subspan(at, kTileBytes)));
  return hashes;
}

TEST(Decode, GivesPillowsPixelsForEveryKindOfFile) {
  for (const TestFile& file : kTestFiles) {
    const Image image = decode(file.bytes());
    EXPECT_EQ(image.width, file.width) << file.name;
    EXPECT_EQ(image.height, file.height) << file.name;
    EXPECT_EQ(pixel_sha256(image.rgb), file.rgb_sha256) << file.name;
  }
}

TEST(Decode, GivesTheGoldenPixelsAndTiles) {
  VL2_NEED_SHARED(shared);
  const auto golden = nlohmann::json::parse(read_file(shared / "golden/images/images.json"));
  const auto candidates =
      nlohmann::json::parse(read_file(shared / "golden/images/resolution_table.json"))["candidate_resolutions"]
          .get<Resolutions>();
  ASSERT_EQ(golden["images"].size(), 31u);
  for (const auto& expected : golden["images"]) {
    const auto name = expected["file"].get<std::string>();
    SCOPED_TRACE(name);
    const Image image = load_image(shared / "golden/images" / name);
    EXPECT_EQ(image.width, expected["size"][0].get<int64_t>());
    EXPECT_EQ(image.height, expected["size"][1].get<int64_t>());
    // Exact for JPEG too: the golden data was made with libjpeg-turbo, whose pixels have not changed since.
    EXPECT_EQ(pixel_sha256(image.rgb), expected["rgb_sha256"].get<std::string>());

    const TileGrid grid = choose_grid(image.width, image.height, candidates, true);
    if (expected.contains("error")) {
      EXPECT_THROW(cut_tiles(image, grid, kTileSize), Error);
      continue;
    }
    EXPECT_EQ(grid, (TileGrid{expected["grid"][0], expected["grid"][1]}));
    EXPECT_EQ(num_vision_tokens(grid, 14), expected["num_image_tokens"].get<int64_t>());
    EXPECT_EQ(tile_hashes(cut_tiles(image, grid, kTileSize)), expected["tile_sha256"].get<std::vector<std::string>>());
    if (expected.contains("no_tiling")) {
      EXPECT_EQ(tile_hashes(cut_tiles(image, {1, 1}, kTileSize)),
                expected["no_tiling"]["tile_sha256"].get<std::vector<std::string>>());
    }
  }
}

TEST(Decode, GivesTheGoldenTilesByteForByte) {
  VL2_NEED_SHARED(shared);
  for (const auto& [name, grid] : {std::pair<std::string, TileGrid>{"odd_pad", {1, 1}},
                                   {"palette", {1, 1}},
                                   {"rgb", {2, 2}},
                                   {"rgb_small_upscale", {1, 1}}}) {
    const auto tiles = cut_tiles(load_image(shared / "golden/images" / (name + ".png")), grid, kTileSize);
    const SafetensorsFile file(shared / "golden/images" / ("tiles_" + name + "_png.safetensors"));
    const TensorView& expected = file.at("tiles_u8");
    ASSERT_EQ(expected.shape, (Shape{grid.num_tiles(), kTileSize, kTileSize, 3}));
    EXPECT_TRUE(std::equal(tiles.begin(), tiles.end(), expected.as<uint8_t>())) << name;
  }
}

TEST(Decode, IgnoresOrientationUnlessAskedToTurn) {
  const TestFile& file = test_file("jpeg_exif_6");
  EXPECT_EQ(decode(file.bytes()).width, 12);
  const Image turned = decode(file.bytes(), {.auto_orient = true});
  EXPECT_EQ(turned.width, 8);
  EXPECT_EQ(turned.height, 12);
  EXPECT_EQ(pixel_sha256(turned.rgb), "97b66584fbb105c1794e8f8d93faf592002e0b1c49964e8042ad1e06c67dc6bf");  // Pillow's
}

TEST(Decode, TurnsEveryOrientation) {
  // EXIF 1 to 8 of the 3 x 2 picture "abc / def", as Pillow's exif_transpose shows them.
  const char* const expected[] = {"abc def",  "cba fed",  "fed cba",  "def abc",
                                  "ad be cf", "da eb fc", "fc eb da", "cf be ad"};
  const TestFile& file = test_file("jpeg_exif_6");
  std::string bytes = file.bytes();
  const size_t tag = bytes.find(std::string("\x12\x01\x03\x00\x01\x00\x00\x00", 8));  // little-endian entry
  const size_t big_tag = bytes.find(std::string("\x01\x12\x00\x03\x00\x00\x00\x01", 8));
  ASSERT_TRUE(tag != std::string::npos || big_tag != std::string::npos);
  const size_t value = tag != std::string::npos ? tag + 8 : big_tag + 9;
  const Image plain = decode(bytes);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    bytes[value] = static_cast<char>(orientation);
    const Image turned = decode(bytes, {.auto_orient = true});
    const std::string_view picture = expected[orientation - 1];
    // The letters name the corners and edges of the source: compare the corners of the turned picture with them.
    const int64_t columns = static_cast<int64_t>(picture.find(' '));
    const bool swapped = columns == 2;
    EXPECT_EQ(probe_image(std::as_bytes(std::span(bytes)), "turned", {.auto_orient = true}),
              (ImageSize{turned.width, turned.height}));
    ASSERT_EQ(turned.width, swapped ? plain.height : plain.width) << orientation;
    const auto source_pixel = [&](char letter) {
      const int64_t index = letter - 'a', x = index % 3, y = index / 3;
      return plain.row(y == 0 ? 0 : plain.height - 1) + (x == 0 ? 0 : x == 2 ? plain.width - 1 : plain.width / 2) * 3;
    };
    const auto corner = [&](bool right, bool bottom) {
      return turned.row(bottom ? turned.height - 1 : 0) + (right ? turned.width - 1 : 0) * 3;
    };
    const std::string_view first = picture.substr(0, static_cast<size_t>(columns));
    const std::string_view last = picture.substr(picture.rfind(' ') + 1);
    EXPECT_TRUE(std::equal(corner(false, false), corner(false, false) + 3, source_pixel(first.front()))) << orientation;
    EXPECT_TRUE(std::equal(corner(true, false), corner(true, false) + 3, source_pixel(first.back()))) << orientation;
    EXPECT_TRUE(std::equal(corner(false, true), corner(false, true) + 3, source_pixel(last.front()))) << orientation;
    EXPECT_TRUE(std::equal(corner(true, true), corner(true, true) + 3, source_pixel(last.back()))) << orientation;
  }
  bytes[value] = 9;  // no such orientation
  EXPECT_EQ(decode(bytes, {.auto_orient = true}).rgb, plain.rgb);
}

TEST(Decode, ShowsTheBackgroundThroughAlphaOnlyWhenGiven) {
  const std::string bytes = test_file("gif_offset_transparent").bytes();
  const Image plain = decode(bytes);
  const Image over = decode(bytes, {.background = {{1, 2, 3}}});
  EXPECT_NE(plain.rgb, over.rgb);
  EXPECT_EQ(std::vector<uint8_t>(over.rgb.begin(), over.rgb.begin() + 3), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(decode(test_file("webp_lossy").bytes(), {.background = {{1, 2, 3}}}).rgb,
            decode(test_file("webp_lossy").bytes()).rgb);
  const Image animated = decode(test_file("webp_animated").bytes(), {.background = {{9, 8, 7}}});
  EXPECT_EQ(std::vector<uint8_t>(animated.rgb.begin(), animated.rgb.begin() + 3), (std::vector<uint8_t>{9, 8, 7}));
}

TEST(Decode, SaysWhatAFileIsThatItCannotRead) {
  const auto error_of = [](std::string_view bytes) -> std::pair<ErrorCode, std::string> {
    try {
      decode(bytes);
    } catch (const Error& error) {
      return {error.code(), error.what()};
    }
    return {ErrorCode::kInternal, "no error"};
  };
  EXPECT_EQ(error_of("").first, ErrorCode::kInvalidArgument);
  const auto [code, message] = error_of("hello");
  EXPECT_EQ(code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      message,
      "test picture: not a picture we know: 5 bytes that start with 68 65 6c 6c 6f; expected JPEG, PNG, WebP, BMP "
      "or GIF");
  EXPECT_EQ(error_of("%PDF-1.7").first, ErrorCode::kUnsupported);
  EXPECT_NE(error_of(std::string("\0\0\0\x1c"
                                 "ftypheic....",
                                 16))
                .second.find("HEIC"),
            std::string::npos);
}

TEST(Decode, LoadsFromAFile) {
  const auto path = std::filesystem::path(testing::TempDir()) / "vl2_decode_test.png";
  const Image image = noise_image("file", 5, 4);
  save_image(path, image);
  EXPECT_EQ(load_image(path).rgb, image.rgb);
  std::filesystem::remove(path);
  try {
    load_image(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  }
}

TEST(Probe, GivesTheSizeThatDecodingGivesForEveryFormat) {
  for (const TestFile& file : kTestFiles) {
    const std::string bytes = file.bytes();
    const ImageSize size = probe_image(std::as_bytes(std::span(bytes)), std::string(file.name));
    EXPECT_EQ(size, (ImageSize{file.width, file.height})) << file.name;
  }
}

TEST(Probe, ReadsNoPixel) {
  const std::string png = encode_png(noise_image("probe", 40, 30));
  const auto front = std::as_bytes(std::span(png)).first(60);  // the header and the first bytes of the data
  EXPECT_EQ(probe_image(front, "front"), (ImageSize{40, 30}));
  EXPECT_THROW(decode_image(front, "front"), Error);
}

TEST(Probe, RefusesWhatDecodingRefusesByItsHeader) {
  const std::string png = encode_png(noise_image("probe", 40, 30));
  const auto bytes = std::as_bytes(std::span(png));
  DecodeOptions small;
  small.max_pixels = 1000;
  EXPECT_THROW(probe_image(bytes, "large", small), Error);
  EXPECT_THROW(probe_image(bytes.first(20), "cut"), Error);
  EXPECT_THROW(probe_image(bytes.first(0), "empty"), Error);
}

}  // namespace
}  // namespace vl2
