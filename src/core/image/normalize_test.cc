#include "core/image/normalize.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/test_data.h"
#include "core/checkpoint/safetensors.h"
#include "core/image/test_images.h"

namespace vl2 {
namespace {

TEST(Normalize, MapsBytesToMinusOneToOneInPlanes) {
  const std::vector<uint8_t> hwc = {0, 255, 127, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<float> chw(12);
  normalize(hwc, 2, chw.data());
  EXPECT_EQ(chw[0], -1.0f);
  EXPECT_EQ(chw[4], 1.0f);
  EXPECT_FLOAT_EQ(chw[8], 127.0f / 127.5f - 1.0f);
  for (size_t i = 0; i < 4; ++i)
    for (size_t c = 0; c < 3; ++c) EXPECT_NEAR(chw[c * 4 + i], hwc[i * 3 + c] / 127.5 - 1.0, 1e-7);
}

TEST(Normalize, EqualsTheGoldenTable) {
  VL2_NEED_SHARED(shared);
  const SafetensorsFile file(shared / "golden/ops/elementwise.safetensors");
  const float* expected = file.at("u8_normalized").as<float>();
  Image all = make_image(16, 16, 0, 0, 0);
  for (size_t i = 0; i < all.rgb.size(); ++i) all.rgb[i] = static_cast<uint8_t>(i / 3);
  std::vector<float> chw(all.rgb.size());
  normalize(all.rgb, 16, chw.data());
  for (size_t v = 0; v < 256; ++v)
    for (size_t c = 0; c < 3; ++c) EXPECT_EQ(chw[c * 256 + v], expected[v]) << v;
}

TEST(Normalize, RefusesATileOfAnotherSize) {
  std::vector<float> chw(12);
  EXPECT_THROW(normalize(std::vector<uint8_t>(11), 2, chw.data()), Error);
}

}  // namespace
}  // namespace vl2
