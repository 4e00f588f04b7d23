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
#include "core/processor/processor.h"
#include "engine/runtime/engine.h"

namespace vl2 {

struct NanoGolden {
  std::filesystem::path image;
  std::string question, answer;
  std::vector<int32_t> prompt_ids, answer_ids;
  double margin_min = 0;
};

// Below this margin the official float32 and float64 runs already differ (README beside the goldens).
inline constexpr double kSureMargin = 6e-3;

inline std::filesystem::path nano_folder() { return std::filesystem::path(source_dir()) / "tests/goldens/nano/model"; }

inline std::vector<NanoGolden> nano_goldens() {
  const std::filesystem::path folder = std::filesystem::path(source_dir()) / "tests/goldens/nano";
  const auto root = parse_json(read_file(folder / "answers.json", size_t{16} << 20), "answers.json");
  std::vector<NanoGolden> goldens;
  for (const auto& item : root) {
    NanoGolden g;
    g.image = folder / item.at("image").get<std::string>();
    g.question = item.at("question");
    g.answer = item.at("answer");
    g.prompt_ids = item.at("prompt_ids").get<std::vector<int32_t>>();
    g.answer_ids = item.at("answer_ids").get<std::vector<int32_t>>();
    g.margin_min = item.at("margin_min");
    goldens.push_back(std::move(g));
  }
  return goldens;
}

inline Request nano_request(const NanoGolden& golden, const Engine& engine) {
  const std::vector<Message> messages = {{"user", "<image>\n" + golden.question}, {"assistant", ""}};
  const std::vector<Image> images = {load_image(golden.image)};
  Request request;
  request.prompt = engine.processor().build(messages, images);
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
