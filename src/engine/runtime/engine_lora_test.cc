// An adapter of the shipped model, from its folder to answers.
#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/lora_merge.h"
#include "core/checkpoint/lora_test.h"
#include "core/checkpoint/quantize.h"
#include "core/processor/processor.h"
#include "engine/runtime/engine.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

struct Said {
  std::vector<int32_t> ids;
  std::string text;
};

Said ask(const fs::path& model, const fs::path& lora, Compute compute) {
  EngineOptions options;
  options.compute.threads = 2;
  options.compute.compute = compute;
  options.lora = lora;
  const auto engine = Engine::open(model, options);
  Request request;
  const std::vector<Message> messages = {{"user", "List the shapes. Describe the picture."}, {"assistant", ""}};
  request.prompt = engine->processor().build(messages, {});
  request.max_new_tokens = 24;
  const Answer answer = engine->submit(request)->answer();
  return {answer.ids, answer.text};
}

TEST(EngineLora, AnAdapterMergedAtLoadAnswersAsTheMergedModelDoes) {
  const TempFolder temp;
  const fs::path nano = fs::path(source_dir()) / "tests/goldens/nano/model";
  RandomAdapter(load_model_config(nano / "config.json"), {"all-linear"}, 4, 7, 0.05f).write(temp / "adapter");
  merge_lora_model(nano, temp / "adapter", temp / "merged", {});
  for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
    const Said plain = ask(nano, "", compute), at_load = ask(nano, temp / "adapter", compute),
               merged = ask(temp / "merged", "", compute);
    EXPECT_EQ(at_load.ids, merged.ids);
    EXPECT_NE(at_load.ids, plain.ids);
    EXPECT_FALSE(merged.ids.empty());
  }
}

TEST(EngineLora, AQuantisedModelIsRefusedWithAdvice) {
  const TempFolder temp;
  const fs::path nano = fs::path(source_dir()) / "tests/goldens/nano/model";
  QuantizeOptions options;
  options.format = ModelFormat::kQ8;
  quantize_model(nano, temp / "q8", options);
  RandomAdapter(load_model_config(nano / "config.json"), {"q_proj"}, 2).write(temp / "adapter");
  try {
    ask(temp / "q8", temp / "adapter", Compute::kAuto);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("quantise the result"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vl2
