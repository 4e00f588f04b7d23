#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/image/decode.h"
#include "core/image/encode.h"
#include "core/image/image.h"
#include "core/image/test_png.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

std::string example(const std::string& name) { return std::string(source_dir()) + "/examples/" + name; }

TEST(TilesGolden, SizesGridsAndTilesOfEveryPictureAreTheReferences) {
  VL2_NEED_SHARED(shared);
  const json golden = json::parse(read_file(shared / "golden/images/images.json"));
  for (const json& image : golden["images"]) {
    const std::string file = image["file"];
    SCOPED_TRACE(file);
    const std::string path = (shared / "golden/images" / file).string();
    if (image.contains("error")) {
      expect_failure(run_vl2({"tiles", "-i", path, "--json"}), "tiles", {file});
      continue;
    }
    const Outcome outcome = run_vl2({"tiles", "-i", path, "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json got = json::parse(outcome.out);
    EXPECT_EQ(got["size"], image["size"]);
    EXPECT_EQ(got["grid"], image["grid"]);
    EXPECT_EQ(got["tokens"], image["num_image_tokens"]);
    EXPECT_EQ(got["rgb_sha256"], image["rgb_sha256"]);
    EXPECT_EQ(got["tile_sha256"], image["tile_sha256"]);
    const json whole = json::parse(run_vl2({"tiles", "-i", path, "--json", "--no-tiling"}).out);
    EXPECT_EQ(whole["grid"], image["no_tiling"]["grid"]);
    EXPECT_EQ(whole["tokens"], image["no_tiling"]["tokens"]);
    EXPECT_EQ(whole["tile_sha256"], image["no_tiling"]["tile_sha256"]);
  }
}

TEST(Tiles, TheTilesWrittenArePicturesOfTheTiles) {
  const TempFolder temp;
  const Outcome outcome =
      run_vl2({"tiles", "-i", example("5-wide.png"), "--json", "-o", (temp / "new/tiles").string()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json got = json::parse(outcome.out);
  const std::vector<std::string> names = names_in(temp / "new/tiles");
  EXPECT_EQ(names, (std::vector<std::string>{"tile-00-global.png", "tile-01-r0-c0.png", "tile-02-r0-c1.png"}));
  for (size_t i = 0; i < names.size(); ++i) {
    const Image tile = load_image(temp / "new/tiles" / names[i]);
    EXPECT_EQ(tile.width, 384);
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(tile.rgb))), got["tile_sha256"][i]);
  }
}

TEST(Tiles, APictureOnStdinIsTheSamePicture) {
  const Outcome from_file = run_vl2({"tiles", "-i", example("5-wide.png"), "--json"});
  const Outcome from_stdin = run_vl2({"tiles", "-i", "-", "--json"}, read_file(example("5-wide.png")));
  EXPECT_EQ(from_stdin.exit_code, 0) << from_stdin.err;
  EXPECT_EQ(from_stdin.out, from_file.out);
}

TEST(Tiles, WithoutJsonTheSameIsSaidForPeople) {
  const Outcome outcome = run_vl2({"tiles", "-i", example("5-wide.png")});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* word : {"768 x 384 pixels", "2 x 1 tiles", "617", "local row 0 column 1"})
    EXPECT_NE(outcome.out.find(word), std::string::npos) << outcome.out;
}

TEST(Tiles, FilesThatAreNoPicturesAreErrors) {
  const TempFolder temp;
  const auto refuse = [&temp](const std::string& what, const std::string& bytes, const std::string& word) {
    SCOPED_TRACE(what);
    write_file_atomic(temp / "hostile.png", bytes);
    expect_failure(run_vl2({"tiles", "-i", (temp / "hostile.png").string(), "-o", (temp / "out").string()}), "tiles",
                   {"hostile.png", word});
    EXPECT_EQ(names_in(temp / "out"), std::vector<std::string>{});
  };
  const std::string good = encode_png(make_image(64, 48, 1, 2, 3));
  refuse("text", "this is no picture", "");
  refuse("empty", "", "");
  refuse("truncated", good.substr(0, good.size() / 2), "");
  TestPng huge;
  huge.width = huge.height = 60'000;
  refuse("60,000 x 60,000", huge.signature_and_header() + png_chunk("IDAT", "") + png_chunk("IEND", ""), "60000");
  TestPng empty;
  empty.width = 0;
  refuse("no pixels", empty.signature_and_header() + png_chunk("IDAT", "") + png_chunk("IEND", ""), "");
  refuse("a line", encode_png(make_image(3000, 2, 1, 2, 3)), "3000");
}

TEST(Tiles, AnAbsentPictureAndAnUnwritableFolderAreErrors) {
  const TempFolder temp;
  expect_failure(run_vl2({"tiles", "-i", (temp / "absent.png").string()}), "tiles", {"absent.png"});
  write_file_atomic(temp / "file", "x");
  expect_failure(run_vl2({"tiles", "-i", example("5-wide.png"), "-o", (temp / "file").string()}), "tiles", {"file"});
}

}  // namespace
}  // namespace vl2::cli_test
