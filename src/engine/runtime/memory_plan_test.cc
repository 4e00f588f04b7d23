#include "engine/runtime/memory_plan.h"

#include <gtest/gtest.h>

#include "core/model_spec/weight_schema.h"
#include "engine/model/attention.h"

namespace vl2 {
namespace {

MemoryPlanInput input() {
  MemoryPlanInput in;
  in.footprint = {2, 2, 4, 2};
  in.cached_tokens = 4096;
  in.max_context = 4096;
  return in;
}

TEST(MemoryPlan, WeightsAreTheParametersTimesWhatTheBackendKeepsOfEach) {
  for (const char* name : {"tiny", "small", "base"}) {
    const ModelConfig config = preset_config(name);
    MemoryPlanInput in = input();
    in.footprint = {2, 2, 2, 2};
    const ParameterCounts counts = count_parameters(config);
    EXPECT_EQ(plan_memory(config, in).weights, 2 * (counts.vision + counts.projector + counts.language)) << name;
  }
}

TEST(MemoryPlan, ATiedTableIsKeptTwice) {
  ModelConfig config = preset_config("tiny");
  const int64_t untied = plan_memory(config, input()).weights;
  config.language.tie_word_embeddings = true;
  EXPECT_EQ(plan_memory(config, input()).weights, untied);  // the table as rows and as the matrix of the logits
}

TEST(MemoryPlan, AFormatsPanelsCountWithTheirPaddingAndScales) {
  const auto weights = [](const char* preset, std::optional<ModelFormat> format) {
    MemoryPlanInput in = input();
    in.format = format;
    return plan_memory(preset_config(preset), in).weights;
  };
  EXPECT_GT(weights("test-tiny", ModelFormat::kBf16), weights("test-tiny", std::nullopt));  // toy sizes are padded
  const int64_t bf16 = weights("tiny", ModelFormat::kBf16), q8 = weights("tiny", ModelFormat::kQ8),
                mixed = weights("tiny", ModelFormat::kMixed), q4 = weights("tiny", ModelFormat::kQ4);
  EXPECT_LT(q8, bf16 * 6 / 10);
  EXPECT_LT(mixed, q8);
  EXPECT_LT(q4, mixed);
}

TEST(MemoryPlan, CacheIsTokensTimesLayersTimesWidth) {
  const ModelConfig config = preset_config("small");
  const MemoryReport plan = plan_memory(config, input());
  EXPECT_EQ(plan.cache, 2 * 4096 * config.language.num_hidden_layers * cache_width(config.language));
  EXPECT_EQ(plan.cached_tokens, 4096);
}

TEST(MemoryPlan, ActivationsGrowWithChunkAndSequencesAndCoverAWholePrompt) {
  const ModelConfig config = preset_config("tiny");
  MemoryPlanInput in = input();
  in.prefill_chunk = 4096;
  const int64_t large = plan_memory(config, in).activations;
  in.prefill_chunk = 0;
  EXPECT_EQ(plan_memory(config, in).activations, large);
  in.max_sequences = 256;
  EXPECT_GT(plan_memory(config, in).activations, large);
}

TEST(MemoryPlan, TooMuchIsRefusedWithAllNumbers) {
  const MemoryReport plan{3 << 20, 2 << 20, 1 << 20, 0, 100};
  EXPECT_NO_THROW(check_memory(plan, 6 << 20, "models/nano"));
  try {
    check_memory(plan, (6 << 20) - 1, "models/nano");
    FAIL() << "a plan over the limit was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    const std::string text = error.what();
    for (const char* part : {"models/nano", "6.0 MiB", "3.0 MiB", "2.0 MiB", "1.0 MiB", "100 tokens"})
      EXPECT_NE(text.find(part), text.npos) << part << " in: " << text;
  }
}

TEST(MemoryPlan, PicturesThatAreKeptCountAndAreNamedWhenThereIsTooLittle) {
  MemoryPlanInput in = input();
  const int64_t without = plan_memory(preset_config("test-tiny"), in).total();
  in.picture_cache_bytes = 7 << 20;
  const MemoryReport plan = plan_memory(preset_config("test-tiny"), in);
  EXPECT_EQ(plan.total(), without + (7 << 20));
  try {
    check_memory(plan, plan.total() - 1, "models/nano");
    FAIL() << "a plan over the limit was accepted";
  } catch (const Error& error) {
    const std::string text = error.what();
    for (const char* part : {"pictures 7.0 MiB", "picture cache"}) EXPECT_NE(text.find(part), text.npos) << text;
  }
}

TEST(MemoryPlan, PicturesGetAQuarterOfWhatIsLeftWhereNobodySays) {
  const MemoryReport plan{3 << 20, 2 << 20, 1 << 20, 0, 100};
  EXPECT_EQ(default_picture_cache(plan, (6 << 20) + 4000), 1000);
  EXPECT_EQ(default_picture_cache(plan, INT64_MAX), int64_t{256} << 20);
  EXPECT_EQ(default_picture_cache(plan, 5 << 20), 0);
}

TEST(MemoryPlan, BytesReadAsPeopleSayThem) {
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(5 << 20), "5.0 MiB");
  EXPECT_EQ(format_bytes((int64_t{3} << 30) / 2), "1.50 GiB");
}

}  // namespace
}  // namespace vl2
