#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

std::string example(const std::string& name) { return std::string(source_dir()) + "/examples/" + name; }

json expand(const json& runs) {
  json values = json::array();
  for (const json& run : runs) values.insert(values.end(), run[1].get<size_t>(), run[0]);
  return values;
}

TEST(PromptGolden, EveryConversationIsWhatTheOfficialProcessorMakes) {
  VL2_NEED_SHARED(shared);
  const json golden = json::parse(read_file(shared / "golden/prompts/prompt_cases.json"));
  int compared = 0;
  for (const json& c : golden["cases"]) {
    if (c["kind"] != "conversation") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    std::vector<std::string> arguments = {"prompt", "--tokenizer",
                                          (shared / "tokenizers/tokenizer_vl2_129k.json").string(), "-"};
    if (c.value("mask_prompt", true)) arguments.emplace_back("--mask-prompt");
    if (!c.value("inference_mode", true)) arguments.emplace_back("--training");
    const json conversation = {{"messages", c["conversations"]}, {"image_sizes", c["image_sizes"]}};
    const Outcome outcome = run_vl2(arguments, conversation.dump());
    if (c.contains("error")) {
      expect_failure(outcome, "prompt", {});
      continue;
    }
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const json got = json::parse(outcome.out);
    EXPECT_EQ(got["input_ids"], expand(c["input_ids_rle"]));
    EXPECT_EQ(got["labels"], expand(c["target_ids_rle"]));
    EXPECT_EQ(got["images_seq_mask"], expand(c["images_seq_mask_rle"]));
    EXPECT_EQ(got["images_spatial_crop"], c["images_spatial_crop"]);
    EXPECT_EQ(got["num_image_tokens"], c["num_image_tokens"]);
    ++compared;
  }
  EXPECT_EQ(compared, 40);
}

TEST(Prompt, PicturesAndTheirSizesGiveTheSamePrompt) {
  const TempFolder temp;
  std::filesystem::copy(example("5-wide.png"), temp / "wide.png");
  const json messages = {{{"role", "user"}, {"content", "<image>\nq"}, {"images", {"wide.png"}}},
                         {{"role", "assistant"}, {"content", ""}}};
  write_file_atomic(temp / "pictures.json", json{{"messages", messages}}.dump());
  json bare = messages;
  bare[0].erase("images");
  write_file_atomic(temp / "sizes.json", json{{"messages", bare}, {"image_sizes", {{768, 384}}}}.dump());
  const Outcome pictures = run_vl2({"prompt", (temp / "pictures.json").string()});
  ASSERT_EQ(pictures.exit_code, 0) << pictures.err;
  const Outcome sizes = run_vl2({"prompt", (temp / "sizes.json").string()});
  EXPECT_EQ(pictures.out, sizes.out);
  EXPECT_EQ(json::parse(pictures.out)["num_image_tokens"], json({617}));
  RunOptions elsewhere;
  elsewhere.folder = temp.path();
  elsewhere.input = read_file(temp / "pictures.json");
  EXPECT_EQ(run_vl2({"prompt", "-"}, elsewhere).out, pictures.out) << "paths on stdin count from where it runs";
}

TEST(Prompt, APictureWithoutAPlaceholderIsLeftOutWithANote) {
  const json conversation = {
      {"messages", {{{"role", "user"}, {"content", "<image>q"}}, {{"role", "assistant"}, {"content", ""}}}},
      {"image_sizes", {{10, 10}, {20, 20}}}};
  const Outcome outcome = run_vl2({"prompt", "-"}, conversation.dump());
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.err.find("1 picture is left out"), std::string::npos) << outcome.err;
  EXPECT_EQ(json::parse(outcome.out)["num_image_tokens"].size(), 1);
}

TEST(Prompt, WhatIsNoConversationIsAnError) {
  const std::string user = R"({"role": "user", "content": "q"})", end = R"({"role": "assistant", "content": ""})";
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"{", "stdin"},
      {"[]", "messages"},
      {"{}", "messages"},
      {R"({"messages": []})", "empty"},
      {R"({"messages": [1]})", "messages[0]"},
      {R"({"messages": [{"role": "user"}]})", "content"},
      {R"({"messages": [{"role": "user", "content": 3}]})", "messages[0].content"},
      {R"({"messages": [{"role": "tool", "content": "q"}, )" + end + "]}", "tool"},
      {R"({"messages": [)" + user + "]}", "assistant"},
      {R"({"messages": [{"role": "user", "content": "<image>"}, )" + end + "]}", "<image>"},
      {R"({"messages": [{"role": "user", "content": "<image>", "images": ["/no/such.png"]}, )" + end + "]}",
       "such.png"},
      {R"({"messages": [)" + user + ", " + end + R"(], "image_sizes": [[0, 3]]})", "image_sizes[0]"},
      {R"({"messages": [)" + user + ", " + end + R"(], "image_sizes": [[1e9, 3]]})", "image_sizes[0]"},
      {R"({"messages": [{"role": "user", "content": "<image>"}, )" + end + R"(], "image_sizes": [[3000, 2]]})", "3000"},
  };
  for (const auto& [text, word] : bad) {
    SCOPED_TRACE(text);
    expect_failure(run_vl2({"prompt", "-"}, text), "prompt", {word});
  }
}

}  // namespace
}  // namespace vl2::cli_test
