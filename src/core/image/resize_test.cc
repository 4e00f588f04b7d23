#include "core/image/resize.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/test_data.h"
#include "core/image/test_images.h"
#include "core/image/tiling.h"

namespace vl2 {
namespace {

struct Case {
  int64_t w, h, out_w, out_h;
  const char* sha256;  // of Pillow 9.4.0's pixels
};

TEST(Resize, EqualsPillowBitForBit) {
  const Case cases[] = {
      {1, 1, 5, 4, "805433f0359943cb2e378d9604e45ffbcc8051f43a471aab8b29b5eb59d6a5c2"},
      {2, 1, 7, 3, "c4d2fe3a83d88d84e5e794663e3a3d2687087d796e93c9734ba3a9f8327fc7c8"},
      {3, 5, 3, 9, "23bad349a17484e28bc66a523154226d326bae3e605e98c62973a62b3a9bd87b"},
      {5, 3, 9, 3, "0d309509c75a6fae842a6d01bc99cdbb76808bd9765e71a3a0759551e8ba8c84"},
      {64, 48, 64, 48, "40fbd50ce063d403ee3ba302711074a693054b8d7621856f3e24590a8a4fe05c"},
      {64, 48, 63, 47, "5767e9a06650d57a7d19113ffe8a5bda2ef22e4ea5e55dd1800fa9b4b856e8a8"},
      {100, 3, 37, 90, "473b7d66c2a517b9d3259d1820ce7231409c27ea72c8f2f54a620bf23f70767a"},
      {7, 200, 96, 11, "47d996c491d95b42fe14be2e61ae1c0b830089b64c3d5fcf755b4b135ea72aeb"},
      {129, 65, 30, 31, "b74b99a56989a9354d0515817736ef6d48752a3ebdbe39eed27c671b99a2dbcb"},
      {50, 60, 1, 1, "477740b5437b382daafa15c001e0f53141a4289de3c1dd587a15d84f143d01b2"},
      {33, 44, 97, 5, "8a3c0de3c0a6cea299c0c8127d8969a5118d68e37b5177a646f615d91002eac0"},
      {300, 200, 383, 256, "2769b3ff672e5935b8ff60efea123b7baedf162d6874d701f280fe4a0ae6db20"},
      {257, 1, 384, 384, "0e572c95e4f2e06d806d116001c7c54f2d40b5e3e954f67230801c5d131cc0f8"},
  };
  for (const Case& c : cases) {
    const Image source = noise_image(fmt::format("vl2.resize.{}x{}", c.w, c.h), c.w, c.h);
    const Image out = resize_bicubic(source, c.out_w, c.out_h);
    EXPECT_EQ(out.width, c.out_w);
    EXPECT_EQ(out.height, c.out_h);
    EXPECT_EQ(pixel_sha256(out.rgb), c.sha256) << c.w << "x" << c.h << " to " << c.out_w << "x" << c.out_h;
  }
}

TEST(Resize, FitAndPadEqualsPillowBitForBit) {
  const Case cases[] = {
      {37, 21, 30, 20, "9c6f9ecf4dfac0bcdbd8e41573b5b3500638367ce56276f5b5cea69db32c406f"},
      {21, 37, 40, 20, "9b2cfdaf557f809ae8e179ea77fa0b48a210f9dea1f94a016bea9bc1a5ec702f"},
      {5, 4, 32, 64, "6ae0e351ca9f2d08299567610992822383d82e3cb68a6c08ea2fb445c88a5198"},
      {100, 100, 16, 16, "2c000ed33e2eae008ec8f67f10acf69fb25fde9bd90ffa28da2c06d459a1e013"},
      {9, 100, 10, 12, "076a0b27620efdcab748ef55d6c81f6efa45803133b68fba5dee328453ac7a86"},
  };
  for (const Case& c : cases) {
    const Image source = noise_image(fmt::format("vl2.resize.{}x{}", c.w, c.h), c.w, c.h);
    const Image out = fit_and_pad(source, c.out_w, c.out_h);
    EXPECT_EQ(pixel_sha256(out.rgb), c.sha256) << c.w << "x" << c.h << " on " << c.out_w << "x" << c.out_h;
  }
}

TEST(Resize, EqualsTheGoldenRuns) {
  VL2_NEED_SHARED(shared);
  const auto cases = nlohmann::json::parse(read_file(shared / "golden/images/resize.json"));
  ASSERT_GE(cases.size(), 7u);
  for (const auto& c : cases) {
    const auto name = c["name"].get<std::string>();
    const Image source = noise_image(name, c["w"], c["h"]);
    ASSERT_EQ(pixel_sha256(source.rgb), c["src_sha256"].get<std::string>()) << name;
    EXPECT_EQ(pixel_sha256(fit_and_pad(source, c["W"], c["H"]).rgb), c["out_sha256"].get<std::string>()) << name;
  }
}

TEST(Resize, KeepsAFlatPictureFlat) {
  const Image flat = make_image(97, 41, 255, 0, 130);
  for (const auto& [width, height] : {std::pair<int64_t, int64_t>{200, 150}, {13, 7}, {97, 5}}) {
    const Image out = resize_bicubic(flat, width, height);
    EXPECT_EQ(out.rgb, make_image(width, height, 255, 0, 130).rgb);
  }
}

TEST(Resize, RefusesAnImageWhoseBytesAreMissing) {
  Image broken = make_image(4, 4, 1, 2, 3);
  broken.rgb.pop_back();
  EXPECT_THROW(resize_bicubic(broken, 2, 2), Error);
  EXPECT_THROW(resize_bicubic(make_image(4, 4, 1, 2, 3), 0, 2), Error);
}

}  // namespace
}  // namespace vl2
