#include "core/processor/collate.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/test_data.h"
#include "core/processor/processor.h"
#include "core/processor/toy_processor.h"

namespace vl2 {
namespace {

template <typename T>
std::vector<T> expand_rows(const nlohmann::json& rows) {
  std::vector<T> values;
  for (const nlohmann::json& row : rows)
    for (const nlohmann::json& run : row) values.insert(values.end(), run[1].get<size_t>(), run[0].get<T>());
  return values;
}

TEST(Collate, TheOfficialBatchIsReproduced) {
  VL2_NEED_SHARED(shared);
  const Processor processor(Tokenizer::load(shared / "tokenizers/tokenizer_vl2_129k.json"), {});
  const nlohmann::json golden = nlohmann::json::parse(read_file(shared / "golden/prompts/prompt_cases.json"));
  const nlohmann::json& expected = golden["batch"];
  std::vector<MultimodalPrompt> prompts;
  for (const nlohmann::json& name : expected["members"])
    for (const nlohmann::json& c : golden["cases"]) {
      if (c["name"] != name) continue;
      std::vector<Message> messages;
      for (const nlohmann::json& m : c["conversations"]) messages.push_back({m["role"], m["content"]});
      std::vector<ImageSize> sizes;
      for (const nlohmann::json& s : c["image_sizes"]) sizes.push_back({s[0], s[1]});
      prompts.push_back(processor.build_from_sizes(messages, sizes, {.mask_prompt = c["mask_prompt"]}));
    }
  const PromptBatch batch = collate(prompts, processor.special().pad);
  EXPECT_EQ(batch.input_ids, expand_rows<int32_t>(expected["input_ids_rle"]));
  EXPECT_EQ(batch.labels, expand_rows<int32_t>(expected["labels_rle"]));
  EXPECT_EQ(batch.attention_mask, expand_rows<uint8_t>(expected["attention_mask_rle"]));
  EXPECT_EQ(batch.images_seq_mask, expand_rows<uint8_t>(expected["images_seq_mask_rle"]));
  EXPECT_EQ(batch.lengths, expected["seq_lens"].get<std::vector<int64_t>>());
  std::vector<std::array<int64_t, 2>> crops;
  for (const nlohmann::json& row : expected["images_spatial_crop"])
    for (const nlohmann::json& crop : row) crops.push_back({crop[0], crop[1]});
  EXPECT_EQ(batch.images_spatial_crop, crops);
  EXPECT_EQ(batch.batch, expected["images_shape"][0]);
  EXPECT_EQ(batch.max_tiles, expected["images_shape"][1]);
}

TEST(Collate, PicturesEndWithZeros) {
  const Processor processor = toy_processor();
  const std::vector<Message> two = {{"user", "<image><image>"}, {"assistant", ""}},
                             none = {{"user", "x"}, {"assistant", ""}};
  const std::vector<MultimodalPrompt> prompts = {
      processor.build_from_sizes(none, {}),
      processor.build_from_sizes(two, std::vector<ImageSize>{{32, 32}, {64, 32}})};
  const PromptBatch batch = collate(prompts, 7);
  EXPECT_EQ(batch.images_spatial_crop, (std::vector<std::array<int64_t, 2>>{{0, 0}, {0, 0}, {1, 1}, {2, 1}}));
  EXPECT_EQ(batch.max_tiles, 5);
  EXPECT_EQ(batch.input_ids[0], 7);
  EXPECT_EQ(batch.length, static_cast<int64_t>(prompts[1].input_ids.size()));
}

TEST(Collate, WhatIsNoBatchIsRefused) {
  EXPECT_THROW(collate({}, 0), Error);
  std::vector<MultimodalPrompt> uneven(1);
  uneven[0].input_ids = {1, 2};
  uneven[0].labels = {1};
  EXPECT_THROW(collate(uneven, 0), Error);
}

}  // namespace
}  // namespace vl2
