#include "core/processor/processor_config.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2 {
namespace {

ErrorCode refused(const std::string& json) {
  try {
    parse_processor_config(json, "processor_config.json");
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("processor_config.json"), 0u) << error.what();
    return error.code();
  }
  ADD_FAILURE() << "accepted: " << json;
  return ErrorCode::kInternal;
}

TEST(ProcessorConfig, NanosFileSaysWhatTheReleasesSay) {
  const ProcessorConfig read = load_processor_config(std::filesystem::path(source_dir()) / "tests/goldens/nano/model");
  const ProcessorConfig defaults;
  EXPECT_EQ(read.candidate_resolutions, defaults.candidate_resolutions);
  EXPECT_EQ(read.patch_size, defaults.patch_size);
  EXPECT_EQ(read.downsample_ratio, defaults.downsample_ratio);
  EXPECT_EQ(read.mask_prompt, defaults.mask_prompt);
  EXPECT_EQ(read.image_token, defaults.image_token);
  EXPECT_EQ(read.pad_token, defaults.pad_token);
  EXPECT_EQ(read.bos_token, defaults.bos_token);
  EXPECT_EQ(read.eos_token, defaults.eos_token);
  EXPECT_EQ(read.tile_size(), 384);
  EXPECT_EQ(read.tokens_per_side(), 14);
}

TEST(ProcessorConfig, EveryKeyIsRead) {
  const ProcessorConfig config = parse_processor_config(
      R"({"candidate_resolutions": [[64, 64], [128, 64]], "patch_size": 8, "downsample_ratio": 4, "mask_prompt": true,
          "image_token": "<pic>", "pad_token": "<p>", "image_mean": [0.5, 0.5, 0.5], "unknown": 1})",
      "x");
  EXPECT_EQ(config.candidate_resolutions, (Resolutions{{64, 64}, {128, 64}}));
  EXPECT_EQ(config.tokens_per_side(), 2);
  EXPECT_TRUE(config.mask_prompt);
  EXPECT_EQ(config.image_token, "<pic>");
  EXPECT_EQ(config.pad_token, "<p>");
}

TEST(ProcessorConfig, WithoutItsFileTheModelsConfigCounts) {
  const TempFolder folder;
  EXPECT_EQ(load_processor_config(folder.path()).tile_size(), 384);
  const ModelConfig model = preset_config("test-tiny");
  write_file_atomic(folder / "config.json", model_config_json(model));
  const ProcessorConfig config = load_processor_config(folder.path());
  EXPECT_EQ(config.candidate_resolutions, model.candidate_resolutions);
  EXPECT_EQ(config.tokens_per_side(), model.tokens_per_side());
}

TEST(ProcessorConfig, TokensComeAsTextAsAnObjectOrNotAtAll) {
  const TempFolder folder;
  write_file_atomic(folder / "tokenizer_config.json", R"({"bos_token": {"content": "<b>"}, "eos_token": null})");
  const ProcessorConfig config = load_processor_config(folder.path());
  EXPECT_EQ(config.bos_token, "<b>");
  EXPECT_EQ(config.eos_token, ProcessorConfig().eos_token);
  write_file_atomic(folder / "tokenizer_config.json", R"({"bos_token": 3})");
  EXPECT_THROW(load_processor_config(folder.path()), Error);
}

TEST(ProcessorConfig, WhatIsBrokenOrImpossibleIsCorrupt) {
  for (const char* json : {"",
                           "{",
                           "[]",
                           "null",
                           R"({"candidate_resolutions": []})",
                           R"({"candidate_resolutions": [[384]]})",
                           R"({"candidate_resolutions": [[384, 100]]})",
                           R"({"candidate_resolutions": [[0, 0]]})",
                           R"({"candidate_resolutions": [[-384, -384]]})",
                           R"({"candidate_resolutions": [[1e99, 384]]})",
                           R"({"candidate_resolutions": [[131072, 131072]]})",
                           R"({"patch_size": 0})",
                           R"({"patch_size": 385})",
                           R"({"patch_size": "14"})",
                           R"({"downsample_ratio": 0})",
                           R"({"downsample_ratio": 28})",
                           R"({"image_token": ""})",
                           R"({"image_token": 5})",
                           R"({"pad_token": ""})",
                           R"({"mask_prompt": 1})"})
    EXPECT_EQ(refused(json), ErrorCode::kCorrupt) << json;
}

TEST(ProcessorConfig, WhatWouldSilentlyGiveOtherPromptsIsUnsupported) {
  for (const char* json : {R"({"sft_format": "plain"})", R"({"normalize": false})",
                           R"({"image_mean": [0.48, 0.45, 0.4]})", R"({"image_std": [0.5, 0.5]})"})
    EXPECT_EQ(refused(json), ErrorCode::kUnsupported) << json;
}

}  // namespace
}  // namespace vl2
