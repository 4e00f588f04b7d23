// Drafted tokens change how long an answer takes and nothing else: every answer is compared, to the last bit, with the
// one that was made a token a step.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "engine/model/test_variants.h"
#include "engine/runtime/drafter.h"
#include "engine/runtime/engine_test.h"
#include "engine/runtime/told_test.h"

namespace vl2 {
namespace {

using Ids = std::vector<int32_t>;

Request with(Request request, Speculation speculation) {
  request.speculation = speculation;
  return request;
}

Told ask(Engine& engine, const Request& request, Speculation speculation) {
  return read(*engine.submit(with(request, speculation)));
}

std::vector<Told> one_by_one(Engine& engine, const std::vector<Request>& requests, Speculation speculation) {
  std::vector<Told> told;
  for (const Request& request : requests) told.push_back(ask(engine, request, speculation));
  return told;
}

std::vector<Told> all_at_once(Engine& engine, const std::vector<Request>& requests, Speculation speculation) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const Request& request : requests) streams.push_back(engine.submit(with(request, speculation)));
  std::vector<Told> told;
  for (const auto& stream : streams) told.push_back(read(*stream));
  return told;
}

// A prompt that says the same again and again.
MultimodalPrompt repeating_prompt(const ModelConfig& config, int64_t phrase, int64_t times, uint64_t seed) {
  MultimodalPrompt once = test_prompt(config, phrase, {}, seed), prompt;
  for (int64_t i = 0; i < times; ++i)
    prompt.input_ids.insert(prompt.input_ids.end(), once.input_ids.begin(), once.input_ids.end());
  prompt.images_seq_mask.assign(prompt.input_ids.size(), 0);
  return prompt;
}

// Greedy answers of random models fall into loops; sampled ones at a low temperature nearly do; with penalties and bans
// they try to leave them.
std::vector<Request> wordy_requests(const ModelConfig& config) {
  std::vector<Request> requests = mixed_requests(config);
  requests.push_back(test_request(test_prompt(config, 12, {}, 11), 70));
  requests.push_back(test_request(repeating_prompt(config, 7, 6, 12), 50));
  requests.back().top_logprobs = 4;
  requests.push_back(test_request(test_prompt(config, 9, {test_image(config, 2, 1, 13)}, 13), 60));
  requests.back().sampling.temperature = 0.05;
  requests.back().sampling.seed = 3;
  requests.back().top_logprobs = 2;
  requests.push_back(test_request(repeating_prompt(config, 5, 9, 14), 45));
  requests.back().sampling.repetition_penalty = 1.05;
  requests.push_back(test_request(repeating_prompt(config, 3, 9, 15), 40));
  requests.back().sampling.no_repeat_ngram_size = 5;
  requests.back().sampling.temperature = 0.3;
  return requests;
}

struct Case {
  TestBackend backend;
  std::string variant;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.backend.label() << " " << c.variant; }

class DraftsOnEveryBackend : public testing::TestWithParam<Case> {};

TEST_P(DraftsOnEveryBackend, ChangeNoBitOfAnyAnswer) {
  const ModelConfig config = variant_config(GetParam().variant);
  const std::vector<Request> requests = wordy_requests(config);
  EngineOptions options = without_caches();
  options.max_cached_tokens = 2048;
  const auto plain = test_engine(GetParam().backend, options, config);
  const std::vector<Told> expected = one_by_one(*plain, requests, Speculation::kOff);
  EXPECT_EQ(plain->stats().drafted_tokens, 0);

  for (const int64_t chunk : {0, 7, 512}) {
    SCOPED_TRACE(fmt::format("chunk {}", chunk));
    options.prefill_chunk = chunk;
    const auto engine = test_engine(GetParam().backend, options, config);
    EXPECT_EQ(one_by_one(*engine, requests, Speculation::kAlways), expected) << "alone";
    const int64_t alone = engine->stats().accepted_tokens;
    EXPECT_GT(alone, 25) << "otherwise this test says little";
    EXPECT_GT(engine->stats().drafted_tokens, alone + 25) << "wrong drafts must have been tried as well";
    EXPECT_EQ(all_at_once(*engine, requests, Speculation::kAlways), expected) << "joining and leaving";
    EXPECT_GT(engine->stats().accepted_tokens, alone);
    EXPECT_EQ(all_at_once(*engine, requests, Speculation::kAuto), expected);
    EXPECT_EQ(engine->stats().cache_blocks_used, 0);
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const TestBackend& backend : test_backends())
    for (const std::string& variant : variant_names()) cases.push_back({backend, variant});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Backends, DraftsOnEveryBackend, testing::ValuesIn(all_cases()),
                         [](const auto& test) { return test.param.backend.label() + "_" + test.param.variant; });

// What the engine's steps were.
class Steps : public EngineObserver {
 public:
  void on_step(const StepReport& report) override {
    const std::lock_guard lock(mutex_);
    steps_.push_back(report);
  }
  std::vector<StepReport> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(steps_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<StepReport> steps_;
};

class Drafts : public testing::Test {
 protected:
  std::unique_ptr<Engine> engine(EngineOptions options = {}, ModelConfig config = preset_config("test-small")) {
    options.observer = &steps_;
    return test_engine(TestBackend{}, std::move(options), config);
  }
  // The prompt with what the model says to it: its greedy answer goes on with the loop it is in.
  Request in_a_loop(Engine& engine, int64_t max_new_tokens) {
    Request request = test_request(test_prompt(engine.config(), 12, {}, 11), 100);
    const Ids said = ask(engine, request, Speculation::kOff).ids;
    MultimodalPrompt& prompt = request.prompt;
    prompt.input_ids.insert(prompt.input_ids.end(), said.begin(), said.end());
    prompt.images_seq_mask.resize(prompt.input_ids.size(), 0);
    request.max_new_tokens = max_new_tokens;
    steps_.take();
    return request;
  }
  // Tokens the last step gave.
  int64_t last_step() { return steps_.take().back().sampled_tokens; }

  Steps steps_;
};

TEST_F(Drafts, SaveAsManyStepsAsWereAccepted) {
  const auto e = engine();
  const Request request = in_a_loop(*e, 60);
  const auto stream = e->submit(with(request, Speculation::kAlways));
  const int64_t tokens = stream->answer().usage.completion_tokens;
  const Timings timings = stream->answer().timings;
  const std::vector<StepReport> steps = steps_.take();
  EXPECT_EQ(static_cast<int64_t>(steps.size()), tokens - timings.accepted_tokens);
  EXPECT_GT(timings.accepted_tokens, 20) << "loops are guessed";
  EXPECT_EQ(e->stats().accepted_tokens, timings.accepted_tokens);
  EXPECT_EQ(e->stats().drafted_tokens, timings.drafted_tokens);
  int64_t sampled = 0, accepted = 0, drafted = 0;
  for (const StepReport& step : steps) {
    sampled += step.sampled_tokens;
    accepted += step.accepted_tokens;
    drafted += step.drafted_tokens;
    EXPECT_LE(step.drafted_tokens, kMostDrafts);
    EXPECT_EQ(step.decode_tokens, step.prefill_tokens > 0 ? 0 : 1 + step.drafted_tokens);
  }
  EXPECT_EQ(sampled, tokens);
  EXPECT_EQ(accepted, timings.accepted_tokens);
  EXPECT_EQ(drafted, timings.drafted_tokens);
}

TEST_F(Drafts, NeverGoBeyondTheLongestAnswer) {
  const auto e = engine();
  for (int64_t n = 1; n <= 12; ++n) {
    const Request request = in_a_loop(*e, n);
    const Told expected = ask(*e, request, Speculation::kOff);
    EXPECT_EQ(expected.finish, FinishReason::kLength);
    EXPECT_EQ(static_cast<int64_t>(expected.ids.size()), n);
    EXPECT_EQ(ask(*e, request, Speculation::kAlways), expected) << n;
  }
}

TEST_F(Drafts, NeverGoBeyondTheContextOrTheCache) {
  const auto probe = engine();
  Request request = in_a_loop(*probe, 500);
  const auto prompt = static_cast<int64_t>(request.prompt.input_ids.size());
  for (int64_t room = 1; room <= 18; ++room) {  // over the end of a block of 16
    EngineOptions options;
    options.max_context = prompt + room;
    options.max_cached_tokens = prompt + room;
    const auto e = engine(options);
    const Told expected = ask(*e, request, Speculation::kOff);
    EXPECT_EQ(static_cast<int64_t>(expected.ids.size()), room);
    EXPECT_EQ(ask(*e, request, Speculation::kAlways), expected) << room;
  }
}

TEST_F(Drafts, AnEndTokenAmongThemEndsTheAnswer) {
  const auto probe = engine();
  Request request = in_a_loop(*probe, 60);
  const Ids loop = ask(*probe, request, Speculation::kOff).ids;
  request.ignore_eos = false;
  int64_t inside = 0;
  for (size_t i = 0; i < std::min<size_t>(loop.size(), 10); ++i) {
    ModelConfig config = preset_config("test-small");
    config.language.eos_token_id = loop[i];
    const auto e = engine({}, config);
    const Told expected = ask(*e, request, Speculation::kOff);
    EXPECT_EQ(expected.finish, FinishReason::kStop);
    steps_.take();
    EXPECT_EQ(ask(*e, request, Speculation::kAlways), expected) << "end token " << loop[i];
    if (last_step() > 1) ++inside;
  }
  EXPECT_GT(inside, 0) << "no answer ended among drafts";
}

TEST_F(Drafts, AStopStringAmongThemEndsTheAnswer) {
  const auto e = engine();
  Request request = in_a_loop(*e, 60);
  const std::string text = ask(*e, request, Speculation::kOff).text;
  int64_t inside = 0;
  for (size_t begin = 0; begin < std::min<size_t>(text.size(), 24); ++begin) {
    size_t end = begin;
    while (end < text.size() && end < begin + 5) ++end;
    while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) ++end;
    if ((static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80) continue;
    request.stop = {text.substr(begin, end - begin)};
    const Told expected = ask(*e, request, Speculation::kOff);
    EXPECT_EQ(expected.finish, FinishReason::kStopString);
    steps_.take();
    EXPECT_EQ(ask(*e, request, Speculation::kAlways), expected) << request.stop[0];
    if (last_step() > 1) ++inside;
  }
  EXPECT_GT(inside, 0) << "no answer ended among drafts";
}

TEST_F(Drafts, AreOfAllSequencesTogetherNoMoreThanAStepHasRoomFor) {
  const auto e = engine();
  const Request request = in_a_loop(*e, 80);
  EngineOptions options;
  options.max_cached_tokens = 4096;
  const auto shared = engine(options);
  const Told expected = ask(*shared, request, Speculation::kOff);
  steps_.take();
  EXPECT_EQ(all_at_once(*shared, std::vector<Request>(6, request), Speculation::kAlways),
            std::vector<Told>(6, expected));
  int64_t most = 0;
  for (const StepReport& step : steps_.take()) {
    EXPECT_LE(step.drafted_tokens, kMostDrafts);
    most = std::max(most, step.drafted_tokens);
  }
  EXPECT_EQ(most, kMostDrafts);
}

TEST_F(Drafts, ACancelledAnswerIsTheBeginningOfTheWholeOne) {
  const auto e = engine();
  const Request request = in_a_loop(*e, 900);
  const Ids whole = ask(*e, request, Speculation::kOff).ids;
  for (int tokens : {1, 2, 5, 20}) {
    const auto stream = e->submit(with(request, Speculation::kAlways));
    for (int i = 0; i < tokens; ++i) ASSERT_TRUE(stream->next());
    stream->cancel();
    const Answer& answer = stream->answer();
    ASSERT_GE(answer.ids.size(), static_cast<size_t>(tokens));
    EXPECT_TRUE(std::equal(answer.ids.begin(), answer.ids.end(), whole.begin()));
  }
  EXPECT_EQ(e->stats().cache_blocks_used, 0);
}

// Throws when the n-th step is about to start.
class FailsOnce : public OpObserver {
 public:
  void before(std::string_view op) override {
    if (op == "embed" && --left_ == 0) throw std::bad_alloc();
  }
  void after(std::string_view, const std::string&) override {}
  void fail_at(int step) { left_ = step; }  // before the engine has work

 private:
  int left_ = 0;
};

TEST_F(Drafts, AStepThatFailsWithThemIsTriedWithoutThem) {
  FailsOnce failure;
  EngineOptions options;
  options.op_observer = &failure;
  const auto e = engine(options);
  const Request request = in_a_loop(*e, 40);
  const Told expected = ask(*e, request, Speculation::kOff);
  int survived = 0;
  for (int step = 2; step < 6; ++step) {  // the first is the prompt's
    failure.fail_at(step);
    const Told told = ask(*e, request, Speculation::kAlways);
    if (told.error) continue;  // nothing was drafted in that step
    EXPECT_EQ(told, expected);
    ++survived;
  }
  EXPECT_GT(survived, 0);
  failure.fail_at(3);
  std::vector<Request> three(3, request);
  for (const Told& told : all_at_once(*e, three, Speculation::kAlways)) EXPECT_TRUE(told.error || told == expected);
  EXPECT_EQ(ask(*e, request, Speculation::kAlways), expected);
  EXPECT_EQ(e->stats().cache_blocks_used, 0);
}

TEST_F(Drafts, AreOnByDefaultAndOffWhenAsked) {
  const auto e = engine();
  Request request = in_a_loop(*e, 300);
  EXPECT_EQ(request.speculation, Speculation::kAuto);
  EXPECT_EQ(e->submit(with(request, Speculation::kOff))->answer().timings.drafted_tokens, 0);
  EXPECT_GT(e->submit(with(request, Speculation::kAlways))->answer().timings.drafted_tokens, 0);
}

}  // namespace
}  // namespace vl2
