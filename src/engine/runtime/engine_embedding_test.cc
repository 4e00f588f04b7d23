// Requests that want an embedding of their prompt in place of an answer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/image/normalize.h"
#include "engine/model/sequence_runner.h"
#include "engine/model/test_variants.h"
#include "engine/reference/reference_ops.h"
#include "engine/runtime/engine_test.h"
#include "engine/runtime/told_test.h"

namespace vl2 {
namespace {

Request embedding_request(MultimodalPrompt prompt) {
  Request request;
  request.prompt = std::move(prompt);
  request.embed = true;
  return request;
}

std::vector<float> embedding_of(TokenStream& stream) {
  const Answer& answer = stream.answer();
  EXPECT_EQ(answer.finish, FinishReason::kStop) << (answer.error ? answer.error->what() : "");
  EXPECT_TRUE(answer.ids.empty());
  EXPECT_FALSE(stream.next());
  return answer.embedding;
}
std::vector<float> embed(Engine& engine, const MultimodalPrompt& prompt) {
  return embedding_of(*engine.submit(embedding_request(prompt)));
}

std::vector<MultimodalPrompt> prompts_of(const ModelConfig& config) {
  return {test_prompt(config, 1, {}, 1), test_prompt(config, 40, {}, 2),
          test_prompt(config, 11, {test_image(config, 2, 1, 3)}, 3),
          test_prompt(config, 20, {test_image(config, 1, 1, 4), test_image(config, 1, 2, 5)}, 4)};
}

// The hidden states of a trace, behind the last norm.
class LastHidden : public StageTap {
 public:
  explicit LastHidden(int64_t layers) : name_(fmt::format("hidden.{}", layers)) {}
  bool wants_layer_details() const override { return false; }
  void stage(const std::string& name, Tensor values) override {
    if (name != name_) return;
    for (int64_t r = 0; r < values.rows; ++r) rows.emplace_back(values.row(r), values.row(r) + values.cols);
  }
  void routing(int64_t, const Routing&) override {}

  std::vector<std::vector<double>> rows;

 private:
  const std::string name_;
};

std::vector<double> unit_mean(const std::vector<std::vector<double>>& rows, size_t first) {
  std::vector<double> sum(rows.front().size());
  for (size_t r = first; r < rows.size(); ++r)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += rows[r][i];
  double squares = 0;
  for (const double value : sum) squares += value * value;
  for (double& value : sum) value /= std::sqrt(squares);
  return sum;
}

TEST(Embedding, IsTheMeanOfTheLastHiddenStatesOfLengthOne) {
  for (const std::string& variant : variant_names()) {
    SCOPED_TRACE(variant);
    ModelConfig config = variant_config(variant);
    config.language.bos_token_id = 3;
    MultimodalPrompt prompt = test_prompt(config, 15, {test_image(config, 2, 1, 3)}, 3);
    prompt.input_ids.front() = 3;

    const auto ops = make_reference_ops();
    RandomSource source(kTestSeed);
    const DeepseekVl2 model(config, *ops, source);
    SequenceInput input;
    input.ids = prompt.input_ids;
    input.is_image.assign(prompt.images_seq_mask.begin(), prompt.images_seq_mask.end());
    input.images = {{2, 1}};
    const int64_t size = config.vision.image_size, values = 3 * size * size;
    for (int64_t tile = 0; tile < 3; ++tile) {
      input.pixels.resize(input.pixels.size() + static_cast<size_t>(values));
      const std::span<const uint8_t> all = prompt.images.front().pixels;
      normalize(all.subspan(static_cast<size_t>(tile * values), static_cast<size_t>(values)), size,
                &input.pixels[static_cast<size_t>(tile * values)]);
    }
    LastHidden tap(config.language.num_hidden_layers);
    SequenceRunner runner(model, {input}, 1);
    runner.step_all(SequenceRunner::Logits::kNone, &tap);
    ASSERT_EQ(tap.rows.size(), prompt.input_ids.size());
    const std::vector<double> expected = unit_mean(tap.rows, 1);

    const auto engine = test_engine(TestBackend{"reference", ""}, {}, config);
    const std::vector<float> found = embed(*engine, prompt);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
  }
}

TEST(Embedding, LeavesOutABeginOfSentenceInFrontAndNoOther) {
  ModelConfig config = preset_config("test-tiny");
  config.language.bos_token_id = 5;
  const auto engine = test_engine(TestBackend{}, {}, config);
  config.language.bos_token_id = 6;
  const auto counting = test_engine(TestBackend{}, {}, config);
  const auto prompt = [](std::vector<int32_t> ids) {
    MultimodalPrompt result;
    result.images_seq_mask.assign(ids.size(), 0);
    result.input_ids = std::move(ids);
    return result;
  };
  EXPECT_EQ(embed(*engine, prompt({5})), embed(*counting, prompt({5}))) << "there is nothing else";
  EXPECT_NE(embed(*engine, prompt({5, 9, 7})), embed(*counting, prompt({5, 9, 7})));
  EXPECT_EQ(embed(*engine, prompt({9, 5, 7})), embed(*counting, prompt({9, 5, 7})));
}

class EmbeddingOnEveryBackend : public testing::TestWithParam<TestBackend> {};

TEST_P(EmbeddingOnEveryBackend, DoesNotDependOnChunksNeighboursOrCaches) {
  for (const char* preset : {"test-tiny", "test-small"}) {
    SCOPED_TRACE(preset);
    const ModelConfig config = preset_config(preset);
    const std::vector<MultimodalPrompt> prompts = prompts_of(config);
    std::vector<std::vector<float>> expected;
    std::vector<Told> answers;
    {
      const auto alone = test_engine(GetParam(), without_caches(), config);
      for (const MultimodalPrompt& prompt : prompts) expected.push_back(embed(*alone, prompt));
      for (const Request& request : mixed_requests(config)) answers.push_back(read(*alone->submit(request)));
    }
    for (const std::vector<float>& one : expected) {
      double squares = 0;
      for (const float value : one) squares += static_cast<double>(value) * value;
      EXPECT_NEAR(squares, 1, 1e-6);
    }
    for (size_t i = 1; i < expected.size(); ++i) EXPECT_NE(expected[i], expected[0]);
    for (const int64_t chunk : {3, 512}) {
      EngineOptions options;
      options.prefill_chunk = chunk;
      options.max_cached_tokens = 8192;
      const auto engine = test_engine(GetParam(), options, config);
      for (int round = 0; round < 2; ++round) {  // the second time the answers' prompts are in the cache
        std::vector<std::shared_ptr<TokenStream>> embeddings, told;
        std::vector<Request> requests = mixed_requests(config);
        for (size_t i = 0; i < std::max(prompts.size(), requests.size()); ++i) {
          if (i < requests.size()) told.push_back(engine->submit(requests[i]));
          // The same prompt is also answered, so that its blocks are known.
          if (i < prompts.size()) told.push_back(engine->submit(test_request(prompts[i], 2)));
          if (i < prompts.size()) embeddings.push_back(engine->submit(embedding_request(prompts[i])));
        }
        for (size_t i = 0; i < embeddings.size(); ++i) EXPECT_EQ(embedding_of(*embeddings[i]), expected[i]) << i;
        for (size_t i = 0, at = 0; i < answers.size(); ++i) {
          EXPECT_EQ(read(*told[at++]), answers[i]) << i;
          if (i < prompts.size()) ++at;
        }
      }
      EXPECT_GT(engine->stats().prefix_hit_tokens, 0);
      EXPECT_EQ(engine->stats().cache_blocks_used, 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, EmbeddingOnEveryBackend, testing::ValuesIn(test_backends()),
                         [](const auto& test) { return test.param.label(); });

TEST(Embedding, UsesPicturesThatWereEncodedBefore) {
  const auto engine = test_engine();
  const MultimodalPrompt prompt = test_prompt(engine->config(), 9, {test_image(engine->config(), 2, 1, 3)}, 3);
  const std::vector<float> first = embed(*engine, prompt);
  const int64_t tiles = engine->stats().tiles;
  EXPECT_EQ(tiles, 3);
  EXPECT_EQ(embed(*engine, prompt), first);
  EXPECT_EQ(engine->stats().tiles, tiles);
  EXPECT_EQ(engine->stats().prefix_query_tokens, 0);
}

TEST(Embedding, CountsItsPromptAndNoAnswer) {
  const auto engine = test_engine();
  const auto stream = engine->submit(embedding_request(test_prompt(engine->config(), 12, {}, 3)));
  const Usage usage = stream->answer().usage;
  EXPECT_EQ(usage.prompt_tokens, 12);
  EXPECT_EQ(usage.completion_tokens, 0);
  EXPECT_EQ(usage.cached_tokens, 0);
  EXPECT_GT(stream->answer().timings.prefill_ms, 0);
  EXPECT_EQ(engine->stats().generated_tokens, 0);
}

}  // namespace
}  // namespace vl2
