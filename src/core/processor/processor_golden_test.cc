// The official processor's runs, exactly: ids, labels, masks, grids, errors.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/random.h"
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
  if (c.contains("conversations"))
    for (const nlohmann::json& m : c["conversations"]) result.messages.push_back({m["role"], m["content"]});
  for (const nlohmann::json& s : c["image_sizes"]) result.sizes.push_back({s[0], s[1]});
  result.options.mask_prompt = c.value("mask_prompt", true);
  result.options.training = !c.value("inference_mode", true);
  result.options.spare_images = true;
  return result;
}

void expect_equal(const MultimodalPrompt& prompt, const nlohmann::json& c) {
  EXPECT_EQ(prompt.input_ids, expand<int32_t>(c["input_ids_rle"]));
  EXPECT_EQ(prompt.labels, expand<int32_t>(c["target_ids_rle"]));
  EXPECT_EQ(prompt.images_seq_mask, expand<uint8_t>(c["images_seq_mask_rle"]));
  EXPECT_EQ(prompt.num_image_tokens, c["num_image_tokens"].get<std::vector<int64_t>>());
  nlohmann::json crop = nlohmann::json::array();
  for (const TiledImage& image : prompt.images) crop.push_back({image.tiles_wide, image.tiles_high});
  if (crop.empty()) crop.push_back({0, 0});
  EXPECT_EQ(crop, c["images_spatial_crop"]);
}

class ProcessorGolden : public testing::Test {
 protected:
  static std::vector<nlohmann::json> read_cases(const std::filesystem::path& shared) {
    return nlohmann::json::parse(read_file(shared / "golden/prompts/prompt_cases.json"))["cases"];
  }
  static Processor large(const std::filesystem::path& shared) {
    return Processor(Tokenizer::load(shared / "tokenizers/tokenizer_vl2_129k.json"), {});
  }
};

TEST_F(ProcessorGolden, EveryConversationGivesTheOfficialPrompt) {
  VL2_NEED_SHARED(shared);
  const Processor processor = large(shared);
  int compared = 0, refused = 0;
  for (const nlohmann::json& c : read_cases(shared)) {
    if (c["kind"] != "conversation") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    const Case run = read_case(c);
    if (c.contains("error")) {
      EXPECT_THROW(processor.build_from_sizes(run.messages, run.sizes, run.options), Error);
      ++refused;
      continue;
    }
    expect_equal(processor.build_from_sizes(run.messages, run.sizes, run.options), c);
    ++compared;
  }
  EXPECT_EQ(compared, 40);
  EXPECT_EQ(refused, 5);
}

TEST_F(ProcessorGolden, EveryConversationHasTheOfficialTranscript) {
  VL2_NEED_SHARED(shared);
  int compared = 0;
  for (const nlohmann::json& c : read_cases(shared)) {
    if (c["kind"] != "conversation" || !c.contains("sft_format")) continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    EXPECT_EQ(format_conversation(read_case(c).messages, c.value("system_prompt", "")),
              c["sft_format"].get<std::string>());
    ++compared;
  }
  EXPECT_EQ(compared, 40);
}

TEST_F(ProcessorGolden, RawPromptsAreTheOfficialOnes) {
  VL2_NEED_SHARED(shared);
  const Processor processor = large(shared);
  int compared = 0;
  for (const nlohmann::json& c : read_cases(shared)) {
    if (c["kind"] != "prompt") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    const Case run = read_case(c);
    std::string text = c["prompt"];
    if (c["apply_sft_format"].get<bool>())
      text = format_conversation(std::vector<Message>{{"<|User|>", text}, {"<|Assistant|>", ""}},
                                 c.value("system_prompt", ""));
    EXPECT_EQ(text, c["sft_format"].get<std::string>());
    expect_equal(processor.build_raw_from_sizes(text, run.sizes, run.options), c);
    ++compared;
  }
  EXPECT_EQ(compared, 5);
}

TEST_F(ProcessorGolden, UntrustedTextGivesTheSamePromptsWhereItHoldsNoSpecialTokens) {
  VL2_NEED_SHARED(shared);
  const Processor processor = large(shared);
  int compared = 0;
  for (const nlohmann::json& c : read_cases(shared)) {
    if (c["kind"] != "conversation" || c.contains("error")) continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    Case run = read_case(c);
    run.options.untrusted = true;
    const MultimodalPrompt prompt = processor.build_from_sizes(run.messages, run.sizes, run.options);
    if (c["name"] != "special_in_text")
      expect_equal(prompt, c);
    else
      EXPECT_NE(prompt.input_ids, expand<int32_t>(c["input_ids_rle"]));
    ++compared;
  }
  EXPECT_EQ(compared, 40);
}

// Of any text, with both families: nothing is lost or added between what was said and what the model reads.
TEST_F(ProcessorGolden, APromptDecodesToTheConversation) {
  VL2_NEED_SHARED(shared);
  const std::vector<std::string> words = {"word", " ",  "\n", "\t\t", "12345",  "猫が好き", "ünï",     "😀",  "()[]{}",
                                          "://",  "\r", "’s", "Ж",    "\u2028", "१२",       "a\u0301", "<|", "<image"};
  for (const char* name : {"tokenizer_vl2_129k.json", "tokenizer_dsllm_100k.json"}) {
    const Processor processor(Tokenizer::load(shared / "tokenizers" / name), {});
    Random random(3);
    const auto text = [&] {
      std::string result = "x";
      for (int64_t n = random.below(12); n > 0; --n)
        result += words[static_cast<size_t>(random.below(static_cast<int64_t>(words.size())))];
      return result + ".";
    };
    for (int round = 0; round < 300; ++round) {
      const std::vector<Message> messages = {
          {"system", text()}, {"user", text()}, {"assistant", text()}, {"user", text()}, {"assistant", ""}};
      const MultimodalPrompt prompt =
          processor.build_from_sizes(messages, {}, {.mask_prompt = true, .untrusted = round % 2 == 0});
      EXPECT_EQ(processor.tokenizer().decode(prompt.input_ids),
                processor.config().bos_token + messages[0].content + format_question(messages[1].content) +
                    messages[2].content + processor.config().eos_token + format_question(messages[3].content));
      std::vector<int32_t> learned(prompt.labels.begin() + 1, prompt.labels.end());
      std::erase(learned, -100);
      EXPECT_EQ(processor.tokenizer().decode(learned), messages[2].content + processor.config().eos_token);
    }
  }
}

TEST_F(ProcessorGolden, NanoGetsTheOfficialPromptsOfItsPictures) {
  const std::filesystem::path root = source_dir();
  const Processor processor = Processor::open(root / "tests/goldens/nano/model");
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
