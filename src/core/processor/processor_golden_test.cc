// The official processor's runs, exactly: ids, labels, masks, grids, errors.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/test_data.h"
#include "core/processor/processor.h"

namespace vl2 {
namespace {

template <typename T>
std::vector<T> expand(const nlohmann::json& runs) {
  std::vector<T> values;
  for (const nlohmann::json& run : runs) values.insert(values.end(), run[1].get<size_t>(), run[0].get<T>());
  return values;
}

struct Case {
  std::vector<Message> messages;
  std::vector<ImageSize> sizes;
  PromptOptions options;
};
Case read_case(const nlohmann::json& c) {
  Case result;
  for (const nlohmann::json& m : c["conversations"]) result.messages.push_back({m["role"], m["content"]});
  for (const nlohmann::json& s : c["image_sizes"]) result.sizes.push_back({s[0], s[1]});
  result.options.mask_prompt = c.value("mask_prompt", true);
  result.options.training = !c.value("inference_mode", true);
  result.options.spare_images = true;
  return result;
}

TEST(ProcessorGolden, EveryConversationGivesTheOfficialPrompt) {
  VL2_NEED_SHARED(shared);
  const Processor processor(Tokenizer::load(shared / "tokenizers/tokenizer_vl2_129k.json"), {});
  const nlohmann::json golden = nlohmann::json::parse(read_file(shared / "golden/prompts/prompt_cases.json"));
  int compared = 0, refused = 0;
  for (const nlohmann::json& c : golden["cases"]) {
    if (c["kind"] != "conversation") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    const Case run = read_case(c);
    if (c.contains("error")) {
      EXPECT_THROW(processor.build_from_sizes(run.messages, run.sizes, run.options), Error);
      ++refused;
      continue;
    }
    const MultimodalPrompt prompt = processor.build_from_sizes(run.messages, run.sizes, run.options);
    EXPECT_EQ(prompt.input_ids, expand<int32_t>(c["input_ids_rle"]));
    EXPECT_EQ(prompt.labels, expand<int32_t>(c["target_ids_rle"]));
    EXPECT_EQ(prompt.images_seq_mask, expand<uint8_t>(c["images_seq_mask_rle"]));
    EXPECT_EQ(prompt.num_image_tokens, c["num_image_tokens"].get<std::vector<int64_t>>());
    nlohmann::json crop = nlohmann::json::array();
    for (const TiledImage& image : prompt.images) crop.push_back({image.tiles_wide, image.tiles_high});
    if (crop.empty()) crop.push_back({0, 0});
    EXPECT_EQ(crop, c["images_spatial_crop"]);
    ++compared;
  }
  EXPECT_EQ(compared, 40);
  EXPECT_EQ(refused, 5);
}

TEST(ProcessorGolden, NanoGetsTheOfficialPromptsOfItsPictures) {
  const std::filesystem::path root = source_dir();
  const Processor processor = Processor::open(root / "models/nano");
  const nlohmann::json answers = nlohmann::json::parse(read_file(root / "tests/goldens/nano/answers.json"));
  ASSERT_FALSE(answers.empty());
  for (const nlohmann::json& c : answers) {
    SCOPED_TRACE(c["image"].get<std::string>());
    const std::string image = c["image"];  // g15_768x384.png
    const size_t from = image.find('_') + 1, x = image.find('x', from);
    const ImageSize size{std::stoll(image.substr(from)), std::stoll(image.substr(x + 1))};
    const std::vector<Message> messages = {{"user", "<image>\n" + c["question"].get<std::string>()}, {"assistant", ""}};
    EXPECT_EQ(processor.build_from_sizes(messages, {&size, 1}).input_ids, c["prompt_ids"].get<std::vector<int32_t>>());
  }
}

}  // namespace
}  // namespace vl2
