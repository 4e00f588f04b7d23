// nano from its folder: the official prompts, and a few of the official answers. nano_slow_test.cc asks everything.
#include "runtime/nano_goldens.h"

namespace vl2 {
namespace {

TEST(Nano, PromptsAreTheOfficialOnes) {
  const auto engine = Engine::open(nano_folder());
  for (const NanoGolden& golden : nano_goldens())
    EXPECT_EQ(nano_request(golden, *engine).prompt.input_ids, golden.prompt_ids) << golden.question;
}

TEST(Nano, SomeAnswersAreTheOfficialOnesAskedTogether) {
  EngineOptions options;
  options.prefill_chunk = 100;
  const auto engine = Engine::open(nano_folder(), options);
  const std::vector<NanoGolden> all = nano_goldens();
  const std::vector<NanoGolden> some = {all[5], all[12], all[25]};
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const NanoGolden& golden : some) streams.push_back(engine->submit(nano_request(golden, *engine)));
  for (size_t i = 0; i < some.size(); ++i) expect_golden_answer(some[i], streams[i]->answer());
}

TEST(Nano, AnswersAreTheSameWithDraftsAndWithout) {
  const auto engine = Engine::open(nano_folder());
  const std::vector<NanoGolden> all = nano_goldens();
  for (const NanoGolden& golden : {all[0], all[5], all[12], all[25]})
    for (const double temperature : {0.0, 0.7}) {
      Request request = nano_request(golden, *engine);
      request.sampling.temperature = temperature;
      request.speculation = Speculation::kOff;
      const auto plain = engine->submit(request);
      request.speculation = Speculation::kAlways;
      const auto drafted = engine->submit(request);
      EXPECT_EQ(drafted->answer().ids, plain->answer().ids) << golden.question;
      EXPECT_EQ(drafted->answer().text, plain->answer().text) << golden.question;
      EXPECT_EQ(drafted->answer().finish, plain->answer().finish) << golden.question;
      EXPECT_EQ(plain->answer().timings.drafted_tokens, 0);
    }
  EXPECT_GT(engine->stats().drafted_tokens, 0);
  EXPECT_GT(engine->stats().accepted_tokens, 0);
}

// Two questions on each of a few pictures, as a server with several users gets them.
TEST(Nano, AnswersAreTheSameWithCachesAndWithout) {
  EngineOptions options;
  options.max_cached_tokens = 8192;
  options.prefix_cache = false;
  options.picture_cache_bytes = 0;
  const auto plain = Engine::open(nano_folder(), options);
  options.prefix_cache = true;
  options.picture_cache_bytes = -1;
  options.prefill_chunk = 100;
  const auto caching = Engine::open(nano_folder(), options);
  const std::vector<NanoGolden> all = nano_goldens();
  std::vector<Request> requests;
  for (size_t i = 0; i < 6; ++i) {
    NanoGolden other = all[i];
    other.question = all[(i + 7) % all.size()].question;
    requests.push_back(nano_request(all[i], *plain));
    requests.push_back(nano_request(other, *plain));
  }
  std::vector<Answer> expected;
  for (const Request& request : requests) expected.push_back(plain->submit(request)->answer());
  for (int turn = 0; turn < 2; ++turn) {
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (const Request& request : requests) streams.push_back(caching->submit(request));
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(streams[i]->answer().ids, expected[i].ids) << i;
      EXPECT_EQ(streams[i]->answer().text, expected[i].text) << i;
    }
  }
  const EngineStats with = caching->stats(), without = plain->stats();
  EXPECT_LE(with.tiles, without.tiles / 2) << "the second question needs no encoder, and the second turn neither";
  EXPECT_LT(with.prompt_tokens, without.prompt_tokens);
  EXPECT_EQ(without.prefix_hit_tokens, 0);
}

}  // namespace
}  // namespace vl2
