// What the official implementation answers with nano's weights (tests/goldens/nano), and how to ask an engine the same.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/test_data.h"
#include "core/image/decode.h"
#include "core/image/tiling.h"
#include "core/text/tokenizer.h"
#include "engine/runtime/engine.h"

namespace vl2 {

struct NanoGolden {
  std::filesystem::path image;
  std::string question, answer;
  TileGrid grid;
  std::vector<int32_t> prompt_ids, answer_ids;
  double margin_min = 0;
};

// Below this margin the official float32 and float64 runs already differ (README beside the goldens).
inline constexpr double kSureMargin = 6e-3;

inline std::filesystem::path nano_folder() { return std::filesystem::path(source_dir()) / "models/nano"; }

inline std::vector<NanoGolden> nano_goldens() {
  const std::filesystem::path folder = std::filesystem::path(source_dir()) / "tests/goldens/nano";
  const auto root = parse_json(read_file(folder / "answers.json", size_t{16} << 20), "answers.json");
  std::vector<NanoGolden> goldens;
  for (const auto& item : root) {
    NanoGolden g;
    g.image = folder / item.at("image").get<std::string>();
    g.question = item.at("question");
    g.answer = item.at("answer");
    g.grid = {item.at("grid").at(0), item.at("grid").at(1)};
    g.prompt_ids = item.at("prompt_ids").get<std::vector<int32_t>>();
    g.answer_ids = item.at("answer_ids").get<std::vector<int32_t>>();
    g.margin_min = item.at("margin_min");
    goldens.push_back(std::move(g));
  }
  return goldens;
}

// The golden's own ids; its picture cut as its grid says.
inline Request nano_request(const NanoGolden& golden, const Engine& engine) {
  const Image image = load_image(golden.image);
  const int32_t placeholder = engine.tokenizer().token_id("<image>").value();
  Request request;
  request.prompt.input_ids = golden.prompt_ids;
  for (const int32_t id : golden.prompt_ids) request.prompt.images_seq_mask.push_back(id == placeholder);
  TiledImage tiled;
  tiled.original_width = image.width;
  tiled.original_height = image.height;
  tiled.tiles_wide = golden.grid.wide;
  tiled.tiles_high = golden.grid.high;
  tiled.tile_size = engine.config().tile_size();
  tiled.pixels = cut_tiles(image, golden.grid, tiled.tile_size);
  request.prompt.images.push_back(std::move(tiled));
  return request;
}

inline void expect_golden_answer(const NanoGolden& golden, const Answer& answer) {
  const std::string name = golden.image.filename().string() + ": " + golden.question;
  ASSERT_FALSE(answer.error) << name << ": " << answer.error->what();
  if (golden.margin_min <= kSureMargin) return;
  EXPECT_EQ(answer.ids, golden.answer_ids) << name;
  EXPECT_EQ(answer.text, golden.answer) << name;
  EXPECT_EQ(answer.finish, FinishReason::kStop) << name;
}

}  // namespace vl2
