#include "core/image/encode.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/image/decode.h"
#include "core/image/resize.h"
#include "core/image/test_images.h"

namespace vl2 {
namespace {

Image decode(const std::string& bytes) { return decode_image(std::as_bytes(std::span(bytes)), "encoded"); }

TEST(Encode, PngGivesTheSamePixelsBack) {
  for (const auto& [width, height] : {std::pair<int64_t, int64_t>{1, 1}, {7, 3}, {200, 150}}) {
    const Image image = noise_image("encode", width, height);
    const Image back = decode(encode_png(image));
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.rgb, image.rgb);
  }
}

TEST(Encode, PngCompressesFlatPictures) { EXPECT_LT(encode_png(make_image(500, 500, 10, 20, 30)).size(), 10000u); }

TEST(Encode, JpegComesCloseAndBetterWithQuality) {
  const Image image = resize_bicubic(noise_image("encode", 6, 5), 61, 47);
  const auto error_at = [&](int quality) {
    const Image back = decode(encode_jpeg(image, quality));
    EXPECT_EQ(back.width, 61);
    EXPECT_EQ(back.height, 47);
    double sum = 0;
    for (size_t i = 0; i < image.rgb.size(); ++i) sum += std::abs(back.rgb[i] - image.rgb[i]);
    return sum / static_cast<double>(image.rgb.size());
  };
  EXPECT_LT(error_at(85), 6.0);
  EXPECT_LT(error_at(95), error_at(20));
}

TEST(Encode, RefusesWhatTheFormatCannotHold) {
  EXPECT_THROW(encode_jpeg(make_image(1, 1, 0, 0, 0), 0), Error);
  EXPECT_THROW(encode_jpeg(make_image(1, 1, 0, 0, 0), 101), Error);
  EXPECT_THROW(encode_jpeg(make_image(65501, 1, 0, 0, 0)), Error);
  EXPECT_THROW(encode_png(Image{2, 2, {}}), Error);
}

TEST(Encode, SavesByTheExtension) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir());
  const Image image = make_image(4, 4, 200, 100, 50);
  save_image(folder / "vl2_encode_test.PNG", image);
  save_image(folder / "vl2_encode_test.jpeg", image);
  EXPECT_EQ(read_file(folder / "vl2_encode_test.PNG").substr(1, 3), "PNG");
  EXPECT_EQ(read_file(folder / "vl2_encode_test.jpeg").substr(0, 2), "\xFF\xD8");
  std::filesystem::remove(folder / "vl2_encode_test.PNG");
  std::filesystem::remove(folder / "vl2_encode_test.jpeg");
  EXPECT_THROW(save_image(folder / "vl2_encode_test.tiff", image), Error);
  EXPECT_THROW(save_image(folder / "no such folder" / "a.png", image), Error);
}

}  // namespace
}  // namespace vl2
