// Many requests at a time: cancelling, queueing, threads.
#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <thread>

#include "engine/runtime/engine_test.h"
#include "engine/runtime/witness_test.h"

namespace vl2 {
namespace {

using Ids = std::vector<int32_t>;

class Watched : public testing::Test {
 protected:
  Engine& engine(EngineOptions options = {}) {
    options.observer = &witness_;
    engine_ = test_engine(options);
    return *engine_;
  }
  Request text(int64_t prompt, int64_t answer, uint64_t seed = 1) const {
    Request request = test_request(test_prompt(engine_->config(), prompt, {}, seed), answer);
    request.speculation = Speculation::kOff;  // a token a step: what is counted here
    return request;
  }

  Witness witness_;
  std::unique_ptr<Engine> engine_;
};
using Cancelling = Watched;
using Queueing = Watched;

TEST_F(Cancelling, AnAnswerStopsWithinAStepAndItsCacheIsFree) {
  engine();
  witness_.stop_after(5);
  const auto stream = engine_->submit(text(10, 1000));
  witness_.wait_for_stop();
  stream->cancel();
  witness_.go_on();
  const Answer& answer = stream->answer();
  EXPECT_EQ(answer.finish, FinishReason::kCancelled);
  EXPECT_EQ(answer.ids.size(), 5u);
  EXPECT_FALSE(answer.error);
  size_t events = 0;
  while (stream->next()) ++events;
  EXPECT_EQ(events, 5u) << "tokens already there can still be read";
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.cache_blocks_used, 0);
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.finished, 1);
}

TEST_F(Queueing, WhatRunsIsKnownByItsSlot) {
  EngineOptions options;
  options.max_sequences = 2;
  engine(options);
  const auto slots = [&] {
    std::vector<int64_t> result;
    for (const SequenceStats& one : engine_->stats().sequences) result.push_back(one.slot);
    return result;
  };
  witness_.stop_after(2);
  const auto first = engine_->submit(text(10, 3)), second = engine_->submit(text(12, 40)),
             third = engine_->submit(text(14, 40));
  witness_.wait_for_stop();
  witness_.stop_after(8);  // the first one is complete, and the third in its place
  witness_.wait_for_stop();
  EXPECT_EQ(slots(), (std::vector<int64_t>{1, 0}));
  const SequenceStats stats = engine_->stats().sequences.front();
  EXPECT_EQ(stats.prompt_tokens, 12);
  EXPECT_EQ(stats.prefilled_tokens, 12);
  EXPECT_GT(stats.generated_tokens, 0);  // how many depends on the step it came in time for
  EXPECT_EQ(stats.generated_tokens + stats.remaining_tokens, 40);
  witness_.go_on();
  for (const auto& stream : {first, second, third}) stream->answer();
  EXPECT_TRUE(slots().empty());
}

TEST_F(Cancelling, DroppingTheStreamIsEnough) {
  engine();
  witness_.stop_after(1);
  const auto kept = engine_->submit(text(10, 40));
  witness_.wait_for_stop();
  {
    const auto dropped = engine_->submit(text(10, 900, 2));
    witness_.stop_after(5);
    witness_.wait_for_stop();
  }
  witness_.go_on();
  EXPECT_EQ(kept->answer().ids.size(), 40u);
  EXPECT_EQ(engine_->stats().finished, 2);
  EXPECT_EQ(engine_->stats().generated_tokens, 44);
}

TEST_F(Cancelling, AWaitingRequestGoesWithoutHavingRun) {
  EngineOptions options;
  options.max_sequences = 1;
  engine(options);
  witness_.stop_after(2);
  const auto running = engine_->submit(text(10, 20));
  const auto waiting = engine_->submit(text(10, 20, 2));
  witness_.wait_for_stop();
  waiting->cancel();
  witness_.go_on();
  EXPECT_EQ(waiting->answer().finish, FinishReason::kCancelled);
  EXPECT_TRUE(waiting->answer().ids.empty());
  EXPECT_EQ(waiting->answer().timings.prefill_ms, 0);
  EXPECT_EQ(running->answer().ids.size(), 20u);
}

TEST_F(Cancelling, AnEngineThatGoesCancelsWhatItHas) {
  EngineOptions options;
  options.max_sequences = 2;
  engine(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  witness_.stop_after(4);
  for (uint64_t i = 0; i < 5; ++i)
    streams.push_back(engine_->submit(
        test_request(test_prompt(engine_->config(), 10, {test_image(engine_->config(), 2, 2, i)}, i), 900)));
  ASSERT_TRUE(streams[0]->next());
  witness_.go_on();
  engine_.reset();
  for (const auto& stream : streams) {
    EXPECT_EQ(stream->answer().finish, FinishReason::kCancelled);
    while (stream->next()) {
    }
  }
}

TEST_F(Queueing, AnAnswerWaitsForTilesOrForAPromptNeverForBoth) {
  engine();
  witness_.stop_after(2);
  const auto answer = engine_->submit(text(10, 200));
  witness_.wait_for_stop();
  const auto picture =
      engine_->submit(test_request(test_prompt(engine_->config(), 10, {test_image(engine_->config(), 3, 3, 2)}, 2), 2));
  const auto words = engine_->submit(text(40, 2, 3));
  witness_.go_on();
  EXPECT_FALSE(picture->answer().error);
  EXPECT_FALSE(words->answer().error);
  EXPECT_EQ(answer->answer().ids.size(), 200u);
  const std::vector<StepReport> steps = witness_.steps();
  int64_t tiles = 0;
  for (const StepReport& step : steps) {
    tiles += step.tiles;
    EXPECT_TRUE(step.decode_tokens == 0 || step.tiles == 0 || step.prefill_tokens == 0);
  }
  EXPECT_EQ(tiles, 10);
  // The picture came first, but the words do not wait for all of it.
  EXPECT_EQ(steps[2].tiles, 1) << "how long one takes is not known yet";
  EXPECT_EQ(steps[2].decode_tokens, 1);
  EXPECT_EQ(steps[3].tiles, 0);
  EXPECT_EQ(steps[3].prefill_tokens, 40);
}

// How long a token takes is not known before there was a step of many; alone a prompt comes in whole chunks.
TEST_F(Queueing, BesideAnswersALongPromptComesInSmallerChunks) {
  engine();
  witness_.stop_after(2);
  const auto answer = engine_->submit(text(10, 380));
  witness_.wait_for_stop();
  const auto prompt = engine_->submit(text(600, 2, 5));
  witness_.go_on();
  EXPECT_EQ(prompt->answer().usage.prompt_tokens, 600);
  answer->cancel();
  EXPECT_EQ(answer->answer().finish, FinishReason::kCancelled);
  std::vector<int64_t> chunks;
  for (const StepReport& step : witness_.steps())
    if (step.decode_tokens > 0 && step.prefill_tokens > 0) chunks.push_back(step.prefill_tokens);
  ASSERT_GE(chunks.size(), 2u);
  EXPECT_EQ(chunks[0], 128);
  for (const int64_t chunk : chunks) EXPECT_LE(chunk, 512);
  EXPECT_EQ(std::accumulate(chunks.begin(), chunks.end(), int64_t{0}), 600);
  EXPECT_GT(prompt->answer().timings.prefill_step_ms, 0);
  EXPECT_LE(prompt->answer().timings.prefill_step_ms, prompt->answer().timings.prefill_ms);

  const auto alone = engine_->submit(text(600, 1, 6));
  EXPECT_EQ(alone->answer().usage.prompt_tokens, 600);
  std::vector<int64_t> whole;
  for (const StepReport& step : witness_.steps())
    if (step.decode_tokens == 0 && step.prefill_tokens > 10) whole.push_back(step.prefill_tokens);
  EXPECT_EQ(whole, (std::vector<int64_t>{512, 88}));
}

TEST_F(Queueing, AFullCacheMakesRequestsWaitInOrder) {
  EngineOptions options;
  options.max_cached_tokens = 64;
  engine(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  std::vector<int64_t> lengths;
  witness_.stop_after(1);
  for (int64_t i = 0; i < 6; ++i) {
    lengths.push_back(40 + i);
    streams.push_back(engine_->submit(text(lengths.back(), 10)));
  }
  witness_.go_on();
  for (const auto& stream : streams) EXPECT_EQ(stream->answer().ids.size(), 10u);
  EXPECT_EQ(witness_.prompt_lengths(), lengths);
  for (const StepReport& step : witness_.steps()) EXPECT_LE(step.decode_tokens, 1) << "two do not fit the cache";
  EXPECT_GT(streams.back()->answer().timings.queue_ms, streams.front()->answer().timings.queue_ms);
}

TEST_F(Queueing, RequestsShareSteps) {
  EngineOptions options;
  options.prefill_chunk = 8;
  engine(options);
  witness_.stop_after(1);
  const auto first = engine_->submit(text(4, 200));
  witness_.wait_for_stop();
  const auto second = engine_->submit(text(30, 20, 2));
  const auto third = engine_->submit(text(30, 20, 3));
  witness_.go_on();
  for (const auto& stream : {first, second, third}) stream->answer();
  int64_t mixed = 0, most = 0;
  for (const StepReport& step : witness_.steps()) {
    EXPECT_LE(step.prefill_tokens, 8);
    if (step.decode_tokens > 0 && step.prefill_tokens > 0) ++mixed;
    most = std::max(most, step.decode_tokens);
  }
  EXPECT_EQ(mixed, 8) << "60 prompt tokens beside the first answer";
  EXPECT_EQ(most, 3);
}

TEST_F(Queueing, PicturesDoNotHoldUpOthersAnswers) {
  engine();
  witness_.stop_after(1);
  const auto talking = engine_->submit(text(4, 300));
  witness_.wait_for_stop();
  const auto picture =
      engine_->submit(test_request(test_prompt(engine_->config(), 4, {test_image(engine_->config(), 3, 3, 1)}, 2), 2));
  witness_.go_on();
  EXPECT_EQ(picture->answer().usage.tiles, 10);
  talking->cancel();
  int64_t tiles = 0;
  double longest_piece = 0;
  for (const StepReport& step : witness_.steps()) {
    EXPECT_LE(step.tiles, 4);
    if (step.tiles == 0) continue;
    tiles += step.tiles;
    longest_piece = std::max(longest_piece, step.vision_ms);
    EXPECT_EQ(step.decode_tokens, 1) << "the other answer goes on between the tiles";
  }
  EXPECT_EQ(tiles, 10);
  EXPECT_EQ(picture->answer().timings.vision_step_ms, longest_piece);
  EXPECT_GE(talking->answer().timings.longest_pause_ms, longest_piece);
  EXPECT_EQ(talking->answer().timings.vision_step_ms, 0) << "not its picture";
}

TEST_F(Queueing, PicturesThatAreNotCutAreEncodedOnceEach) {
  engine();
  std::vector<TiledImage> images;
  for (uint64_t i = 0; i < 6; ++i) images.push_back(uncut_image(engine_->config(), i));
  images.push_back(test_image(engine_->config(), 1, 1, 6));  // whose tiles differ
  const auto stream = engine_->submit(test_request(test_prompt(engine_->config(), 4, images, 2), 2));
  EXPECT_EQ(stream->answer().usage.tiles, 14);
  int64_t encoded = 0;
  for (const StepReport& step : witness_.steps()) encoded += step.tiles;
  EXPECT_EQ(encoded, 8);
}

TEST(Threads, ManySubmittersGetTheirOwnAnswers) {
  EngineOptions options;
  options.max_sequences = 5;
  options.max_cached_tokens = 2048;
  options.prefill_chunk = 20;
  const auto engine = test_engine(options);
  std::vector<Request> requests = mixed_requests(engine->config());
  std::vector<Ids> expected;
  for (const Request& r : requests) expected.push_back(engine->submit(r)->answer().ids);

  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      for (size_t n = 0; n < requests.size(); ++n) {
        const size_t i = (n + t) % requests.size();
        const auto stream = engine->submit(requests[i]);
        if ((n + t) % 4 == 3) {
          stream->cancel();
          if (stream->answer().error) ++wrong;
          continue;
        }
        Ids ids;
        while (const auto event = stream->next()) ids.push_back(event->id);
        if (ids != expected[i]) ++wrong;
      }
    });
  std::thread reader([&] {
    while (engine->stats().finished < 30) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  for (std::thread& thread : threads) thread.join();
  reader.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(engine->stats().cache_blocks_used, 0);
  EXPECT_EQ(engine->stats().finished, 6 + 36);
}

}  // namespace
}  // namespace vl2
