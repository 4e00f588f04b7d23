// What is not done again: pictures and beginnings of prompts that an engine knows; alone, together, and when somebody
// goes away in between.
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "engine/runtime/caches_test.h"
#include "engine/runtime/engine_test.h"
#include "engine/runtime/told_test.h"
#include "engine/runtime/witness_test.h"

namespace vl2 {
namespace {

constexpr int64_t kBlock = 16;

// Tokens of a prompt that can be shared with one that is the same for `same` tokens.
int64_t whole_blocks(int64_t same, const Request& request) {
  return std::min(same, length_of(request) - 1) / kBlock * kBlock;
}

class Caches : public testing::Test {
 protected:
  void open(EngineOptions options = {}) {
    options.observer = &witness_;
    engine_ = test_engine(options);
  }
  // Prompt tokens and tiles that an answer took.
  std::pair<int64_t, int64_t> cost(const Request& request) {
    const EngineStats before = engine_->stats();
    last_ = engine_->submit(request)->answer();
    EXPECT_FALSE(last_.error) << last_.error->what();
    const EngineStats after = engine_->stats();
    return {after.prompt_tokens - before.prompt_tokens, after.tiles - before.tiles};
  }

  const ModelConfig config_ = preset_config("test-small");
  const TiledImage picture_ = test_image(config_, 3, 3, 31);
  Witness witness_;
  std::unique_ptr<Engine> engine_;
  Answer last_;
};
using Cost = std::pair<int64_t, int64_t>;

TEST_F(Caches, ASecondQuestionOnAPictureSkipsVisionAndTheSharedPrefix) {
  open();
  const Request first = question(config_, picture_, 1), second = question(config_, picture_, 2);
  EXPECT_EQ(cost(first), (Cost{length_of(first), 10}));
  EXPECT_EQ(last_.usage.cached_tokens, 0);
  EXPECT_GT(last_.timings.vision_ms, 0);
  const int64_t shared = whole_blocks(length_of(first) - 11, second);
  ASSERT_GT(shared, length_of(first) - 11 - kBlock);
  EXPECT_EQ(cost(second), (Cost{length_of(second) - shared, 0}));
  EXPECT_EQ(last_.usage.cached_tokens, shared);
  EXPECT_EQ(last_.usage.prompt_tokens, length_of(second));
  EXPECT_EQ(last_.usage.tiles, 10);
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.prefix_query_tokens, length_of(first) + length_of(second));
  EXPECT_EQ(stats.prefix_hit_tokens, shared);
  EXPECT_EQ(stats.picture_queries, 1) << "covered by the prefix, it was not asked for";
  EXPECT_EQ(stats.picture_hits, 0);
}

TEST_F(Caches, TheSameTextWithAnotherPictureSharesNothingFromThePictureOn) {
  open();
  const Request first = question(config_, picture_, 1), other = question(config_, test_image(config_, 3, 3, 32), 1);
  cost(first);
  EXPECT_EQ(cost(other), (Cost{length_of(other) - 20 / kBlock * kBlock, 10})) << "20 tokens of text stand before it";
  TiledImage nearly = picture_;
  nearly.pixels[nearly.pixels.size() / 2] ^= 1;
  EXPECT_EQ(cost(question(config_, nearly, 1)).second, 10);
}

TEST_F(Caches, APictureThatStandsElsewhereIsNotEncodedAgain) {
  open();
  cost(question(config_, picture_, 1));
  const Request moved = test_request(test_prompt(config_, 30, {picture_}, 5), 3);
  EXPECT_EQ(cost(moved), (Cost{length_of(moved), 0}));
  EXPECT_EQ(engine_->stats().picture_hits, 1);
  EXPECT_EQ(engine_->stats().picture_bytes,
            moved.prompt.num_image_tokens[0] * config_.language.hidden_size * static_cast<int64_t>(sizeof(float)));
}

TEST_F(Caches, WithoutThemEverythingIsDoneAgain) {
  open(without_caches());
  const Request request = question(config_, picture_, 1);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(cost(request), (Cost{length_of(request), 10}));
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.prefix_query_tokens, 0);
  EXPECT_EQ(stats.prefix_hit_tokens, 0);
  EXPECT_EQ(stats.picture_hits, 0);
  EXPECT_EQ(stats.cache_blocks_remembered, 0);
  EXPECT_EQ(engine_->memory().pictures, 0);
}

TEST_F(Caches, OnlyThePrefixOrOnlyPictures) {
  EngineOptions options;
  options.picture_cache_bytes = 0;
  open(options);
  const Request request = question(config_, picture_, 1),
                moved = test_request(test_prompt(config_, 30, {picture_}, 5), 3);
  cost(request);
  EXPECT_EQ(cost(question(config_, picture_, 2)).second, 0);
  EXPECT_EQ(cost(moved).second, 10);

  options = {};
  options.prefix_cache = false;
  open(options);
  cost(request);
  EXPECT_EQ(cost(request), (Cost{length_of(request), 0}));
}

// Half of a picture's rows are in the cache, the others are not any more.
TEST_F(Caches, APrefixMayEndInTheMiddleOfAPicture) {
  EngineOptions options;
  options.picture_cache_bytes = 0;
  const Request request = question(config_, picture_, 1);
  options.max_cached_tokens = length_of(request) + 20;
  open(options);
  cost(request);
  const Told expected = read(*test_engine(without_caches())->submit(request));
  // Takes all that is empty, and of the other's blocks those at its end.
  cost(test_request(test_prompt(config_, length_of(request) / 2, {}, 9), 2));
  const EngineStats before = engine_->stats();
  EXPECT_EQ(read(*engine_->submit(request)), expected);
  const int64_t hit = engine_->stats().prefix_hit_tokens - before.prefix_hit_tokens;
  EXPECT_GT(hit, 20) << "the picture begins behind so many tokens";
  EXPECT_LT(hit, 20 + request.prompt.num_image_tokens[0]);
  EXPECT_EQ(engine_->stats().tiles - before.tiles, 10);
}

TEST_F(Caches, PicturesTakeAtMostAQuarterOfWhatIsLeftAndWhatIsAskedFor) {
  open(without_caches());
  EngineOptions options;
  options.memory_limit = engine_->memory().total() + 4000;
  open(options);
  EXPECT_EQ(engine_->memory().pictures, 1000);
  options.memory_limit = int64_t{1} << 40;
  open(options);
  EXPECT_EQ(engine_->memory().pictures, 256 << 20);
  options.picture_cache_bytes = 12345;
  open(options);
  EXPECT_EQ(engine_->memory().pictures, 12345);
}

// Its angles move with the length: rows of a short prompt are not those of a long one.
TEST_F(Caches, PrefixesAreNotSharedBeyondWhereDynamicRopeScalingMovesThem) {
  ModelConfig config = preset_config("test-tiny");
  config.language.rope_scaling = RopeScaling{.type = RopeScalingType::kDynamic, .factor = 4.0};
  const Request request = test_request(test_prompt(config, 60, {}, 1), 3);
  for (const bool longer : {false, true}) {
    EngineOptions options;
    options.max_context = config.language.max_position_embeddings + (longer ? 1 : 0);
    engine_ = test_engine(TestBackend{}, options, config);
    cost(request);
    EXPECT_EQ(cost(request).first, longer ? 60 : 60 - 48);
  }
}

// --- together ---

TEST_F(Caches, AnswersThatShareTheirPromptComputeItOnce) {
  EngineOptions options;
  options.prefill_chunk = 50;
  options.max_cached_tokens = 4096;
  const Request request = question(config_, picture_, 1);
  const Told expected = read(*test_engine(without_caches())->submit(request));
  open(options);
  witness_.stop_after(1);
  const auto first = engine_->submit(test_request(test_prompt(config_, 20, {}, 8), 60));
  witness_.wait_for_stop();
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 5; ++i) streams.push_back(engine_->submit(request));
  witness_.go_on();
  for (const auto& stream : streams) EXPECT_EQ(read(*stream), expected);
  const EngineStats stats = engine_->stats();
  const int64_t shared = whole_blocks(length_of(request), request);
  EXPECT_EQ(stats.prompt_tokens, 20 + length_of(request) + 4 * (length_of(request) - shared));
  EXPECT_EQ(stats.prefix_hit_tokens, 4 * shared);
  EXPECT_EQ(stats.tiles, 10);
  EXPECT_EQ(streams[0]->answer().usage.cached_tokens, 0);
  for (size_t i = 1; i < streams.size(); ++i) EXPECT_EQ(streams[i]->answer().usage.cached_tokens, shared);
}

TEST_F(Caches, APictureAskedForByTwoAtOnceIsEncodedOnce) {
  open();
  witness_.stop_after(1);
  const auto first = engine_->submit(test_request(test_prompt(config_, 20, {}, 8), 60));
  witness_.wait_for_stop();
  const auto one = engine_->submit(test_request(test_prompt(config_, 30, {picture_}, 5), 3));
  const auto two = engine_->submit(test_request(test_prompt(config_, 40, {picture_, uncut_image(config_, 4)}, 6), 3));
  witness_.go_on();
  EXPECT_FALSE(one->answer().error);
  EXPECT_FALSE(two->answer().error);
  EXPECT_EQ(engine_->stats().tiles, 10 + 1);
  EXPECT_EQ(engine_->stats().picture_hits, 1);
}

TEST_F(Caches, WhoIsCancelledWhileOthersShareItsPromptTakesNothingWithIt) {
  EngineOptions options;
  options.prefill_chunk = 24;  // one and a half blocks
  const Request request = question(config_, picture_, 1);
  const Told expected = read(*test_engine(without_caches())->submit(request));
  // Cancelled while its picture is encoded, or in the middle of its prefill.
  for (const size_t steps : {1, 2, 6, 7}) {
    SCOPED_TRACE(steps);
    Witness witness;
    options.observer = &witness;
    const auto engine = test_engine(options);
    witness.stop_after(1);
    const auto other = engine->submit(test_request(test_prompt(config_, 20, {}, 8), 60));
    witness.wait_for_stop();
    const auto gone = engine->submit(request), next = engine->submit(request), last = engine->submit(request);
    witness.stop_after(1 + steps);
    witness.wait_for_stop();
    gone->cancel();
    witness.go_on();
    EXPECT_EQ(gone->answer().finish, FinishReason::kCancelled);
    EXPECT_EQ(read(*next), expected);
    EXPECT_EQ(read(*last), expected);
    EXPECT_EQ(next->answer().usage.cached_tokens % kBlock, 0) << "no half block";
    EXPECT_FALSE(other->answer().error);
    int64_t before = 0;  // how many at a time depends on how long one takes
    for (size_t i = 1; i <= steps; ++i) before += witness.steps()[i].tiles;
    EXPECT_EQ(engine->stats().tiles, before < 10 ? 10 + before : 10) << "half a picture is lost";
    EXPECT_EQ(engine->stats().cache_blocks_used, 0);
    EXPECT_EQ(read(*engine->submit(request)), expected);
  }
}

TEST_F(Caches, APromptThatWasCancelledHalfwayLeavesWholeBlocksOnly) {
  EngineOptions options;
  options.prefill_chunk = 24;
  const Request request = question(config_, picture_, 1);
  const Told expected = read(*test_engine(without_caches())->submit(request));
  open(options);
  witness_.stop_after(5);  // three of them encode, the last ones prefill
  const auto gone = engine_->submit(request);
  witness_.wait_for_stop();
  gone->cancel();
  witness_.go_on();
  gone->answer();
  const EngineStats before = engine_->stats();
  EXPECT_EQ(before.cache_blocks_used, 0);
  ASSERT_GT(before.prompt_tokens, kBlock);
  EXPECT_EQ(before.cache_blocks_remembered, before.prompt_tokens / kBlock);
  EXPECT_EQ(read(*engine_->submit(request)), expected);
  EXPECT_EQ(engine_->stats().prefix_hit_tokens, before.prompt_tokens / kBlock * kBlock);
}

TEST_F(Caches, WhoFailsWhileOthersShareItsPromptFailsAlone) {
  EngineOptions options;
  options.prefill_chunk = 24;
  const Request request = question(config_, picture_, 1);
  const Told expected = read(*test_engine(without_caches())->submit(request));
  open(options);
  Request failing = request;
  failing.progress = [](Stage stage, int64_t done, int64_t) {
    if (stage == Stage::kPrefill && done > 60) throw std::runtime_error("enough");
  };
  witness_.stop_after(1);
  const auto other = engine_->submit(test_request(test_prompt(config_, 20, {}, 8), 60));
  witness_.wait_for_stop();
  const auto bad = engine_->submit(failing), good = engine_->submit(request);
  witness_.go_on();
  EXPECT_EQ(bad->answer().finish, FinishReason::kError);
  EXPECT_EQ(read(*good), expected);
  EXPECT_EQ(good->answer().usage.cached_tokens, 64);
}

TEST_F(Caches, ProgressTellsWhatDoesNotHaveToBeRun) {
  open();
  Request request = test_request(test_prompt(config_, 40, {}, 5), 2);
  std::vector<std::pair<Stage, int64_t>> told;
  request.progress = [&](Stage stage, int64_t done, int64_t total) {
    EXPECT_EQ(total, 40);
    told.emplace_back(stage, done);
  };
  engine_->submit(request)->answer();
  EXPECT_EQ(told, (std::vector<std::pair<Stage, int64_t>>{{Stage::kPrefill, 40}}));
  told.clear();
  engine_->submit(request)->answer();
  EXPECT_EQ(told, (std::vector<std::pair<Stage, int64_t>>{{Stage::kCached, 32}, {Stage::kPrefill, 40}}));
}

TEST_F(Caches, RememberedBlocksGiveWayToRequestsThatNeedThem) {
  EngineOptions options = without_caches();
  options.max_cached_tokens = 256;
  options.prefix_cache = true;
  open(options);
  const auto plain = test_engine(without_caches());
  for (uint64_t seed = 1; seed < 9; ++seed) {
    const Request request = test_request(test_prompt(config_, 100, {}, seed), 20);
    EXPECT_EQ(read(*engine_->submit(request)), read(*plain->submit(request)));
    const EngineStats stats = engine_->stats();
    EXPECT_EQ(stats.cache_blocks_total, 16);
    EXPECT_EQ(stats.cache_blocks_used, 0);
    EXPECT_EQ(stats.cache_blocks_remembered, std::min<int64_t>(6 * static_cast<int64_t>(seed), seed > 2 ? 14 : 12))
        << seed;
  }
  // One that needs the whole cache is admitted.
  EXPECT_EQ(engine_->submit(test_request(test_prompt(config_, 240, {}, 20), 17))->answer().ids.size(), 16u);
}

TEST_F(Caches, TextIsNotHeldUpByThePictureOfAPromptThatBeginsAlike) {
  open();
  MultimodalPrompt with_picture = test_prompt(config_, 80, {picture_}, 5), text = test_prompt(config_, 40, {}, 5);
  ASSERT_TRUE(std::equal(text.input_ids.begin(), text.input_ids.end(), with_picture.input_ids.begin()));
  witness_.stop_after(1);
  const auto first = engine_->submit(test_request(test_prompt(config_, 20, {}, 8), 60));
  witness_.wait_for_stop();
  const auto slow = engine_->submit(test_request(with_picture, 3)), quick = engine_->submit(test_request(text, 3));
  witness_.go_on();
  EXPECT_EQ(slow->answer().usage.cached_tokens, 32);
  EXPECT_EQ(quick->answer().usage.cached_tokens, 0);
  EXPECT_EQ(witness_.prompt_lengths().front(), 40) << "answered while the other's picture was being encoded";
}

}  // namespace
}  // namespace vl2
