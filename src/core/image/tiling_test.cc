#include "core/image/tiling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "core/base/error.h"
#include "core/base/test_data.h"
#include "core/image/test_images.h"

namespace vl2 {
namespace {

const Resolutions kCandidates = {{384, 384},  {384, 768},  {768, 384},  {384, 1152}, {1152, 384}, {384, 1536},
                                 {1536, 384}, {768, 768},  {384, 1920}, {1920, 384}, {384, 2304}, {2304, 384},
                                 {768, 1152}, {1152, 768}, {384, 2688}, {2688, 384}, {384, 3072}, {3072, 384},
                                 {768, 1536}, {1536, 768}, {384, 3456}, {3456, 384}, {1152, 1152}};

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Tiling, PicksTheResolutionThatKeepsMostThenWastesLeast) {
  struct Row {
    int64_t w, h, best_w, best_h, tokens;
    PadPlan local, global;
  };
  const Row rows[] = {
      // spec/model.md 2.10
      {100, 100, 384, 384, 421, {384, 384, 0, 0}, {384, 384, 0, 0}},
      {385, 385, 768, 768, 1023, {768, 768, 0, 0}, {384, 384, 0, 0}},
      {500, 375, 768, 384, 617, {512, 384, 128, 0}, {384, 288, 0, 48}},
      {375, 500, 384, 768, 631, {384, 512, 0, 128}, {288, 384, 48, 0}},
      {640, 480, 768, 768, 1023, {768, 576, 0, 96}, {384, 288, 0, 48}},
      {1024, 768, 1152, 768, 1415, {1024, 768, 64, 0}, {384, 288, 0, 48}},
      {1600, 1200, 1152, 1152, 2017, {1152, 864, 0, 144}, {384, 288, 0, 48}},
      {1920, 1080, 1536, 768, 1807, {1365, 768, 86, 0}, {384, 216, 0, 84}},
      {1080, 1920, 768, 1536, 1835, {768, 1365, 0, 86}, {216, 384, 84, 0}},
      {2480, 3508, 1152, 1152, 2017, {814, 1152, 169, 0}, {271, 384, 56, 0}},
      {3000, 300, 3072, 384, 1793, {3072, 307, 0, 38}, {384, 38, 0, 173}},
      {5000, 500, 3456, 384, 1989, {3456, 346, 0, 19}, {384, 38, 0, 173}},
      {1000, 10, 1152, 384, 813, {1152, 12, 0, 186}, {384, 4, 0, 190}},
      {10, 3000, 384, 3072, 1891, {10, 3072, 187, 0}, {1, 384, 192, 0}},
  };
  for (const Row& r : rows) {
    SCOPED_TRACE(fmt::format("{} x {}", r.w, r.h));
    const auto best = best_resolution(r.w, r.h, kCandidates);
    EXPECT_EQ(best, std::make_pair(r.best_w, r.best_h));
    const TileGrid grid = choose_grid(r.w, r.h, kCandidates, true);
    EXPECT_EQ(grid, (TileGrid{r.best_w / 384, r.best_h / 384}));
    EXPECT_EQ(num_vision_tokens(grid, 14), r.tokens);
    EXPECT_EQ(plan_pad(r.w, r.h, best.first, best.second), r.local);
    EXPECT_EQ(plan_pad(r.w, r.h, 384, 384), r.global);
  }
}

TEST(Tiling, EqualsTheGoldenResolutionTable) {
  VL2_NEED_SHARED(shared);
  const auto table = nlohmann::json::parse(read_file(shared / "golden/images/resolution_table.json"));
  const auto candidates = table["candidate_resolutions"].get<Resolutions>();
  ASSERT_EQ(candidates, kCandidates);
  ASSERT_EQ(table["rows"].size(), 400u);
  const auto plan_of = [](const nlohmann::json& p) { return PadPlan{p[0], p[1], p[2], p[3]}; };
  for (const auto& row : table["rows"]) {
    const int64_t w = row["w"], h = row["h"];
    SCOPED_TRACE(fmt::format("{} x {}", w, h));
    const auto best = best_resolution(w, h, candidates);
    EXPECT_EQ(best, (row["best"].get<std::pair<int64_t, int64_t>>()));
    const TileGrid grid = choose_grid(w, h, candidates, true);
    EXPECT_EQ(grid, (TileGrid{row["grid"][0], row["grid"][1]}));
    EXPECT_EQ(num_vision_tokens(grid, 14), row["tokens"].get<int64_t>());
    EXPECT_EQ(plan_pad(w, h, best.first, best.second), plan_of(row["local_resize"]));
    EXPECT_EQ(plan_pad(w, h, 384, 384), plan_of(row["global_resize"]));
  }
}

TEST(Tiling, UsesOneTileWhenDynamicTilingIsOff) {
  EXPECT_EQ(choose_grid(1920, 1080, kCandidates, false), (TileGrid{1, 1}));
  EXPECT_EQ(num_vision_tokens({1, 1}, 14), 421);
}

TEST(Tiling, CountsTheTokensOfEveryGrid) {
  EXPECT_EQ(num_vision_tokens({1, 9}, 14), 2101);
  EXPECT_EQ(num_vision_tokens({9, 1}, 14), 1989);
  EXPECT_EQ(num_vision_tokens({3, 3}, 14), 2017);
  EXPECT_EQ(num_vision_tokens({1, 18}, 14), 3991);
  EXPECT_EQ(num_vision_tokens({2, 1}, 6), 6 * 7 + 1 + 6 * 13);
}

TEST(Tiling, CutsTheGlobalViewThenLocalTilesRowByRow) {
  // Two tiles wide, three high, 2 pixels a side: nothing is resized in the local view, so every pixel is known.
  const Image image = noise_image("vl2.tiling", 4, 6);
  const TileGrid grid{2, 3};
  const auto tiles = cut_tiles(image, grid, 2);
  ASSERT_EQ(tiles.size(), 7u * 2 * 2 * 3);
  EXPECT_EQ((std::vector<uint8_t>(tiles.begin(), tiles.begin() + 12)), fit_and_pad(image, 2, 2).rgb);
  for (int64_t tile = 0; tile < 6; ++tile) {
    for (int64_t y = 0; y < 2; ++y) {
      const uint8_t* expected = image.row(tile / 2 * 2 + y) + tile % 2 * 2 * 3;
      EXPECT_TRUE(std::equal(expected, expected + 6, tiles.begin() + 12 + tile * 12 + y * 6)) << tile << " " << y;
    }
  }
}

TEST(Tiling, RepeatsTheGlobalViewAsTheOnlyLocalTile) {
  const auto tiles = cut_tiles(noise_image("vl2.tiling", 31, 17), {1, 1}, 24);
  ASSERT_EQ(tiles.size(), 2u * 24 * 24 * 3);
  EXPECT_TRUE(std::equal(tiles.begin(), tiles.begin() + 24 * 24 * 3, tiles.begin() + 24 * 24 * 3));
  EXPECT_EQ(tiles[0], 127);  // the padding above a wide picture
}

TEST(Tiling, RefusesAPictureThatIsTooThin) {
  const std::string message = error_of([] { cut_tiles(make_image(3000, 2, 1, 2, 3), {8, 1}, 384); });
  EXPECT_NE(message.find("3000 x 2 pixels is too thin"), std::string::npos) << message;
  EXPECT_NE(error_of([] { check_can_tile(1, 3657, {1, 1}, 384, "a.png"); }).find("a.png: 1 x 3657"), std::string::npos);
  EXPECT_EQ(error_of([] {
              check_can_tile(1, 768, {1, 2}, 384, "a.png");
            }).find("too thin") == std::string::npos,
            false);
  EXPECT_EQ(error_of([] { check_can_tile(1, 767, {1, 2}, 384, "a.png"); }), "");
}

TEST(Tiling, RefusesSizesThatMakeNoSense) {
  EXPECT_THROW(best_resolution(0, 5, kCandidates), Error);
  EXPECT_THROW(best_resolution(5, -1, kCandidates), Error);
  EXPECT_THROW(best_resolution(INT64_MAX, INT64_MAX, kCandidates), Error);
  EXPECT_THROW(best_resolution(5, 5, {}), Error);
  EXPECT_THROW(best_resolution(5, 5, {{384, 0}}), Error);
  EXPECT_THROW(choose_grid(800, 400, {{384, 384}, {800, 400}}, true), Error);
  EXPECT_THROW(plan_pad(5, 5, 0, 5), Error);
  const Image image = make_image(8, 8, 1, 2, 3);
  EXPECT_THROW(cut_tiles(image, {0, 1}, 8), Error);
  EXPECT_THROW(cut_tiles(image, {1, 1}, 0), Error);
  EXPECT_THROW(cut_tiles(image, {4096, 4096}, 384), Error);
  EXPECT_THROW(cut_tiles(image, {INT64_MAX, 2}, 384), Error);
}

}  // namespace
}  // namespace vl2
