// What requests are answered, on small random models: the same whatever the backend cuts, batches or reorders.
#include "engine/runtime/engine_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/image/normalize.h"
#include "core/text/utf8.h"
#include "engine/model/sequence_runner.h"
#include "engine/runtime/engine.h"

namespace vl2 {
namespace {

using Ids = std::vector<int32_t>;

// All requests at once, in this order; answers by request.
std::vector<Ids> answers(Engine& engine, const std::vector<Request>& requests, std::vector<size_t> order = {}) {
  if (order.empty()) {
    order.resize(requests.size());
    std::iota(order.begin(), order.end(), size_t{0});
  }
  std::vector<std::shared_ptr<TokenStream>> streams(requests.size());
  for (const size_t i : order) streams[i] = engine.submit(requests[i]);
  std::vector<Ids> result;
  for (const auto& stream : streams) {
    const Answer& answer = stream->answer();
    EXPECT_FALSE(answer.error) << answer.error->what();
    result.push_back(answer.ids);
  }
  return result;
}

std::vector<Ids> answers_one_by_one(Engine& engine, const std::vector<Request>& requests) {
  std::vector<Ids> result;
  for (const Request& request : requests) result.push_back(engine.submit(request)->answer().ids);
  return result;
}

struct Case {
  TestBackend backend;
  std::string preset;
};
std::string case_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.backend.label() + "_" + info.param.preset;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
void PrintTo(const Case& c, std::ostream* out) { *out << c.backend.label() << " " << c.preset; }

class EveryBackend : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Engine> engine(int64_t chunk, int64_t sequences = 64) {
    EngineOptions options = without_caches();  // engine_caches_test.cc has the rest
    options.prefill_chunk = chunk;
    options.max_sequences = sequences;
    return test_engine(GetParam().backend, options, GetParam().preset);
  }
};

TEST_P(EveryBackend, TokensDoNotDependOnChunksNeighboursOrOrder) {
  const std::vector<Request> requests = mixed_requests(preset_config(GetParam().preset));
  const std::vector<Ids> alone = answers_one_by_one(*engine(512), requests);
  for (size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(alone[i].size(), static_cast<size_t>(requests[i].max_new_tokens));
  for (const int64_t chunk : {0, 1, 7, 16, 512}) {
    const auto e = engine(chunk);
    EXPECT_EQ(answers(*e, requests), alone) << "chunk " << chunk;
    EXPECT_EQ(answers(*e, requests, {5, 3, 1, 0, 2, 4}), alone) << "chunk " << chunk << ", another order";
  }
  EXPECT_EQ(answers(*engine(16, 2), requests), alone) << "two at a time";
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const TestBackend& backend : test_backends())
    for (const char* preset : {"test-tiny", "test-small", "test-base"}) cases.push_back({backend, preset});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Backends, EveryBackend, testing::ValuesIn(all_cases()), case_name);

// The model driven by hand, without any of the runtime.
Ids greedy_by_hand(const Request& request, const ModelConfig& config) {
  const auto ops = make_ops("reference", {});
  RandomSource source(kTestSeed);
  const DeepseekVl2 model(config, *ops, source);
  SequenceInput input;
  input.ids = request.prompt.input_ids;
  input.is_image.assign(request.prompt.images_seq_mask.begin(), request.prompt.images_seq_mask.end());
  const int64_t size = config.vision.image_size, bytes = 3 * size * size;
  for (const TiledImage& image : request.prompt.images) {
    input.images.push_back({image.tiles_wide, image.tiles_high});
    for (int64_t t = 0; t < image.num_tiles(); ++t) {
      std::vector<float> tile(static_cast<size_t>(bytes));
      normalize(std::span(image.pixels).subspan(static_cast<size_t>(t * bytes), static_cast<size_t>(bytes)), size,
                tile.data());
      input.pixels.insert(input.pixels.end(), tile.begin(), tile.end());
    }
  }
  SequenceRunner runner(model, {input}, request.max_new_tokens);
  Ids ids;
  for (int64_t n = 0; n < request.max_new_tokens; ++n) {
    std::vector<float> logits = runner.step_all(SequenceRunner::Logits::kLast);
    logits.resize(256);  // the tokenizer's ids
    ids.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    runner.append(0, ids.back());
  }
  return ids;
}

TEST(Engine, GreedyAnswersAreWhatTheModelSays) {
  for (const char* preset : {"test-tiny", "test-small", "test-base"}) {
    const ModelConfig config = preset_config(preset);
    const auto engine = test_engine({"reference", ""}, {}, preset);
    std::vector<TiledImage> images = {test_image(config, 2, 1, 8), test_image(config, 1, 1, 9),
                                      uncut_image(config, 10)};
    const Request request = test_request(test_prompt(config, 23, std::move(images), 10), 15);
    EXPECT_EQ(engine->submit(request)->answer().ids, greedy_by_hand(request, config)) << preset;
  }
}

TEST(Engine, ASeedGivesTheSameAnswerAgainAnotherSeedAnotherOne) {
  const auto engine = test_engine();
  Request request = test_request(test_prompt(engine->config(), 10, {}, 1), 30);
  request.sampling.temperature = 1.0;
  request.sampling.seed = 5;
  const Ids first = engine->submit(request)->answer().ids;
  EXPECT_EQ(engine->submit(request)->answer().ids, first);
  request.sampling.seed = 6;
  EXPECT_NE(engine->submit(request)->answer().ids, first);
}

TEST(Engine, EventsAndAnswerTellTheSame) {
  const auto engine = test_engine();
  Request request = test_request(test_prompt(engine->config(), 10, {test_image(engine->config(), 2, 1, 2)}, 1), 40);
  request.top_logprobs = 3;
  const auto stream = engine->submit(request);
  Ids ids;
  std::string text;
  while (const auto event = stream->next()) {
    ids.push_back(event->id);
    text += event->text;
    ASSERT_EQ(event->top.size(), 3u);
    EXPECT_GE(event->top[0].logprob, event->top[1].logprob);
    EXPECT_LE(event->logprob, event->top[0].logprob);
    EXPECT_LE(event->logprob, 0);
    EXPECT_TRUE(is_valid_utf8(event->text)) << "half a character was sent";
  }
  const Answer& answer = stream->answer();
  EXPECT_EQ(answer.ids, ids);
  EXPECT_EQ(answer.text, text);
  EXPECT_EQ(answer.text, engine->tokenizer().decode(ids));
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.usage.completion_tokens, 40);
  EXPECT_EQ(answer.usage.prompt_tokens, static_cast<int64_t>(request.prompt.input_ids.size()));
  EXPECT_EQ(answer.usage.vision_tokens, request.prompt.num_image_tokens[0]);
  EXPECT_EQ(answer.usage.tiles, 3);
  EXPECT_GT(answer.timings.vision_ms, 0);
  EXPECT_GT(answer.timings.prefill_ms, 0);
  EXPECT_GT(answer.timings.decode_ms, 0);
}

TEST(Engine, TheAnswerEndsWithTheModelsEndToken) {
  const auto probe = test_engine();
  const Request request = test_request(test_prompt(probe->config(), 10, {}, 1), 20);
  const Ids free = probe->submit(request)->answer().ids;

  ModelConfig config = preset_config("test-small");
  config.language.eos_token_id = free[7];
  const auto first = std::find(free.begin(), free.end(), free[7]);
  RandomSource source(kTestSeed);
  const auto engine = Engine::create(config, source, byte_tokenizer());
  Request ending = request;
  ending.ignore_eos = false;
  const auto stream = engine->submit(ending);
  const Answer& answer = stream->answer();
  EXPECT_EQ(answer.finish, FinishReason::kStop);
  EXPECT_EQ(answer.ids, Ids(free.begin(), first + 1));
  EXPECT_EQ(answer.text, engine->tokenizer().decode(Ids(free.begin(), first)));
  EXPECT_EQ(engine->submit(request)->answer().ids, free) << "ignore_eos goes on";
}

TEST(Engine, TheAnswerEndsWhereTheContextDoes) {
  EngineOptions options;
  options.max_context = 50;
  const auto engine = test_engine(options);
  const auto stream = engine->submit(test_request(test_prompt(engine->config(), 45, {}, 1), 512));
  EXPECT_EQ(stream->answer().finish, FinishReason::kLength);
  EXPECT_EQ(stream->answer().ids.size(), 5u);
  const auto last = engine->submit(test_request(test_prompt(engine->config(), 49, {}, 1), 512));
  EXPECT_EQ(last->answer().ids.size(), 1u);
}

TEST(Engine, StopStringsEndTheAnswerWhereverTokensAreCut) {
  const auto engine = test_engine();
  Request request = test_request(test_prompt(engine->config(), 12, {}, 3), 60);
  request.sampling.temperature = 3.0;  // bytes of all kinds
  request.sampling.seed = 11;
  const std::string whole = engine->submit(request)->answer().text;
  ASSERT_GT(whole.size(), 40u);
  // Three neighbouring characters: every token is one byte, so it lies across tokens.
  size_t begin = whole.size() / 2;
  while ((static_cast<unsigned char>(whole[begin]) & 0xc0) == 0x80) ++begin;
  size_t end = begin;
  for (int i = 0; i < 3; ++i) end += utf8_length(whole, end);
  const std::string stop = whole.substr(begin, end - begin);
  request.stop = {"no such text", stop};
  const auto stream = engine->submit(request);
  std::string text;
  while (const auto event = stream->next()) text += event->text;
  EXPECT_EQ(stream->answer().finish, FinishReason::kStopString);
  EXPECT_EQ(stream->answer().stop_string, stop);
  EXPECT_EQ(text, whole.substr(0, whole.find(stop)));
  EXPECT_EQ(stream->answer().text, text);
}

TEST(Engine, ProgressTellsTilesThenPromptTokens) {
  EngineOptions options;
  options.prefill_chunk = 16;
  const auto engine = test_engine(options);
  Request request = test_request(test_prompt(engine->config(), 20, {test_image(engine->config(), 2, 3, 1)}, 2), 2);
  const auto prompt = static_cast<int64_t>(request.prompt.input_ids.size());
  std::vector<std::pair<int64_t, int64_t>> vision, prefill;
  request.progress = [&](Stage stage, int64_t done, int64_t total) {
    (stage == Stage::kVision ? vision : prefill).emplace_back(done, total);
  };
  engine->submit(request)->answer();
  EXPECT_EQ(vision, (std::vector<std::pair<int64_t, int64_t>>{{4, 7}, {7, 7}}));
  ASSERT_EQ(static_cast<int64_t>(prefill.size()), (prompt + 15) / 16);
  EXPECT_EQ(prefill.front(), (std::pair<int64_t, int64_t>{16, prompt}));
  EXPECT_EQ(prefill.back(), (std::pair<int64_t, int64_t>{prompt, prompt}));
}

TEST(Engine, StagesOfTheTimingsFillTheTimeFromSubmitToFinish) {
  const auto engine = test_engine();
  const auto begin = std::chrono::steady_clock::now();
  const auto stream = engine->submit(test_request(test_prompt(engine->config(), 30, {}, 2), 30));
  const Timings t = stream->answer().timings;
  const double waited = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_LE(t.total_ms(), waited);
  EXPECT_EQ(t.vision_ms, 0);
  EXPECT_GT(t.decode_ms, 0);
  EXPECT_GT(t.longest_pause_ms, 0);
  EXPECT_LE(t.longest_pause_ms, t.decode_ms);
  EXPECT_EQ(
      engine->submit(test_request(test_prompt(engine->config(), 30, {}, 2), 1))->answer().timings.longest_pause_ms, 0)
      << "of one token";
}

}  // namespace
}  // namespace vl2
