// Requests that cannot run, requests that fail while they run, engines that do not fit: each gets a clear error, and
// nobody else notices.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "engine/runtime/engine_test.h"

namespace vl2 {
namespace {

void expect_refused(Engine& engine, const Request& request, const std::vector<std::string>& parts) {
  try {
    engine.submit(request);
    FAIL() << "accepted, expected an error with \"" << parts.front() << "\"";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    const std::string text = error.what();
    for (const std::string& part : parts) EXPECT_NE(text.find(part), text.npos) << part << " in: " << text;
  }
}

class Refusals : public testing::Test {
 protected:
  // A good request with one thing changed.
  void expect_refused_with(const std::function<void(Request&)>& change, const std::vector<std::string>& parts) {
    Request request = test_request(test_prompt(config(), 10, {test_image(config(), 2, 1, 1)}, 1));
    change(request);
    expect_refused(*engine_, request, parts);
  }
  const ModelConfig& config() const { return engine_->config(); }

  std::unique_ptr<Engine> engine_ = test_engine();
};

TEST_F(Refusals, PromptsThatAreNone) {
  expect_refused_with([](Request& r) { r.prompt = {}; }, {"empty"});
  expect_refused_with([](Request& r) { r.prompt.input_ids[2] = -1; }, {"token 2", "-1", "320"});
  expect_refused_with([](Request& r) { r.prompt.input_ids[0] = 320; }, {"token 0", "320"});
}

TEST_F(Refusals, PicturesThatDoNotFitTheirPlaces) {
  expect_refused_with([](Request& r) { r.prompt.images.clear(); }, {"0 pictures"});
  expect_refused_with([](Request& r) { r.prompt.images.push_back(r.prompt.images[0]); }, {"2 pictures"});
  expect_refused_with([](Request& r) { r.prompt.images_seq_mask.clear(); }, {"places for 0"});
  expect_refused_with([](Request& r) { r.prompt.images_seq_mask.pop_back(); }, {"mask of"});
  expect_refused_with([](Request& r) { r.prompt.images_seq_mask[0] = 1; }, {"places for"});
  expect_refused_with([](Request& r) { r.prompt.images[0].tile_size = 384; }, {"picture 1", "384", "72"});
  expect_refused_with([](Request& r) { r.prompt.images[0].pixels.clear(); }, {"picture 1", "sizes alone"});
  expect_refused_with([](Request& r) { r.prompt.images[0].pixels.pop_back(); }, {"picture 1", "bytes"});
  expect_refused_with([](Request& r) { r.prompt.images[0].tiles_wide = 0; }, {"0 x 1 tiles"});
  expect_refused_with([](Request& r) { r.prompt.images[0].tiles_high = std::numeric_limits<int64_t>::max(); },
                      {"picture 1"});
}

TEST_F(Refusals, SettingsOutOfRange) {
  expect_refused_with([](Request& r) { r.max_new_tokens = 0; }, {"max_new_tokens", "0"});
  expect_refused_with([](Request& r) { r.max_new_tokens = -5; }, {"max_new_tokens", "-5"});
  expect_refused_with([](Request& r) { r.top_logprobs = 21; }, {"top_logprobs", "21"});
  expect_refused_with([](Request& r) { r.sampling.temperature = -1; }, {"temperature"});
  expect_refused_with([](Request& r) { r.sampling.top_p = std::numeric_limits<double>::quiet_NaN(); }, {"top_p"});
  expect_refused_with([](Request& r) { r.stop = {""}; }, {"stop string 0"});
}

TEST_F(Refusals, PromptsLongerThanTheContextSayByHowMuchAndWhatPicturesCost) {
  Request request =
      test_request(test_prompt(config(), 1000, {test_image(config(), 3, 2, 1), test_image(config(), 1, 1, 2)}, 1), 1);
  const auto length = static_cast<int64_t>(request.prompt.input_ids.size());
  expect_refused(*engine_, request,
                 {fmt::format("{} tokens", length), "1024", fmt::format("{} too many", length - 1023),
                  fmt::format("picture 1: {} (3 x 2 tiles)", request.prompt.num_image_tokens[0]),
                  fmt::format("picture 2: {} (1 x 1 tiles)", request.prompt.num_image_tokens[1])});
  expect_refused(*engine_, test_request(test_prompt(config(), 1024, {}, 1), 1), {"1 too many"});
  EXPECT_EQ(engine_->submit(test_request(test_prompt(config(), 1023, {}, 1), 1))->answer().ids.size(), 1u);
}

TEST_F(Refusals, PromptsThatWouldNeverFitTheCache) {
  EngineOptions options;
  options.max_cached_tokens = 64;
  const auto small = test_engine(options);
  EXPECT_EQ(small->max_context(), 64);
  expect_refused(*small, test_request(test_prompt(config(), 64, {}, 1), 1), {"64", "1 too many"});
  EXPECT_EQ(small->submit(test_request(test_prompt(config(), 63, {}, 1), 9))->answer().ids.size(), 1u);
}

TEST_F(Refusals, StopStringsWithoutATokenizer) {
  RandomSource source(1);
  const auto mute = Engine::create(preset_config("test-tiny"), source, nullptr);
  Request request = test_request(test_prompt(mute->config(), 5, {}, 1), 4);
  EXPECT_EQ(mute->submit(request)->answer().text, "");
  request.stop = {"x"};
  expect_refused(*mute, request, {"tokenizer"});
  EXPECT_THROW(mute->tokenizer(), Error);
  EXPECT_THROW(mute->processor(), Error);
}

TEST_F(Refusals, NobodyElseNotices) {
  const Request good = test_request(test_prompt(config(), 10, {}, 1), 10);
  const auto before = engine_->submit(good)->answer().ids;
  const auto stream = engine_->submit(good);
  expect_refused_with([](Request& r) { r.prompt.input_ids[0] = 5000; }, {"5000"});
  EXPECT_EQ(stream->answer().ids, before);
}

// --- failing while running ---

constexpr int32_t kPoison = 77;

// A model that knows no number for one token.
class PoisonedSource : public WeightSource {
 public:
  TensorView get(const std::string& name, const Shape& shape) override {
    TensorView tensor = random_.get(name, shape);
    if (name != "language.model.embed_tokens.weight") return tensor;
    values_.assign(tensor.as<BF16>(), tensor.as<BF16>() + tensor.size());
    std::fill_n(values_.begin() + kPoison * shape[1], shape[1], to_bf16(std::numeric_limits<float>::quiet_NaN()));
    tensor.data = reinterpret_cast<const std::byte*>(values_.data());
    return tensor;
  }

 private:
  RandomSource random_{kTestSeed};
  std::vector<BF16> values_;
};

Request poisoned(Request request) {
  request.prompt.input_ids.back() = kPoison;
  return request;
}

TEST(FailingRequests, NumbersThatAreNoneEndTheirRequestAlone) {
  for (const char* backend : {"cpu", "reference"}) {
    PoisonedSource source;
    EngineOptions options;
    options.backend = backend;
    options.prefill_chunk = 16;
    const auto engine = Engine::create(preset_config("test-small"), source, byte_tokenizer(), options);
    std::vector<Request> requests;
    for (uint64_t seed = 1; seed < 6; ++seed) {
      requests.push_back(test_request(test_prompt(engine->config(), 20, {}, seed), 20));
      for (int32_t& id : requests.back().prompt.input_ids) id = id == kPoison ? kPoison + 1 : id;
    }
    std::vector<std::vector<int32_t>> alone;
    for (const Request& r : requests) alone.push_back(engine->submit(r)->answer().ids);
    std::vector<std::shared_ptr<TokenStream>> good, bad;
    for (const Request& r : requests) {
      good.push_back(engine->submit(r));
      bad.push_back(engine->submit(poisoned(r)));
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      const Answer& answer = bad[i]->answer();
      EXPECT_EQ(answer.finish, FinishReason::kError);
      ASSERT_TRUE(answer.error);
      EXPECT_THROW(bad[i]->next(), Error);
      if (std::count(alone[i].begin(), alone[i].end(), kPoison) > 0) continue;  // said it itself
      EXPECT_EQ(good[i]->answer().finish, FinishReason::kLength);
      EXPECT_EQ(good[i]->answer().ids, alone[i]) << backend;
    }
    EXPECT_EQ(engine->stats().cache_blocks_used, 0);
  }
}

// Throws when an operation is about to start, while armed.
class Saboteur : public OpObserver {
 public:
  void before(std::string_view op) override {
    if (op == op_ && left_ > 0) {
      --left_;
      throw std::bad_alloc();
    }
  }
  void after(std::string_view, const std::string&) override {}
  void fail(std::string op, int times) {  // before the engine has work
    op_ = std::move(op);
    left_ = times;
  }

 private:
  std::string op_;
  int left_ = 0;
};

TEST(FailingRequests, AStepThatFailsForAllIsTriedForEach) {
  Saboteur saboteur;
  EngineOptions options;
  options.op_observer = &saboteur;
  const auto engine = test_engine(options);
  const Request request = test_request(test_prompt(engine->config(), 20, {}, 1), 8);
  const auto alone = engine->submit(request)->answer().ids;

  saboteur.fail("embed", 1);  // too large a step, say: on their own they fit
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 3; ++i) streams.push_back(engine->submit(request));
  int failed = 0;
  for (const auto& stream : streams) {
    const Answer& answer = stream->answer();
    if (answer.error) {
      ++failed;  // it was alone in its step
      EXPECT_EQ(answer.error->code(), ErrorCode::kOutOfMemory);
    } else {
      EXPECT_EQ(answer.ids, alone);
    }
  }
  EXPECT_LE(failed, 1);
  EXPECT_EQ(engine->submit(request)->answer().ids, alone);
}

TEST(FailingRequests, APictureThatFailsEndsItsRequestAndTheEngineGoesOn) {
  Saboteur saboteur;
  EngineOptions options = without_caches();
  options.op_observer = &saboteur;
  const auto engine = test_engine(options);
  const Request request =
      test_request(test_prompt(engine->config(), 20, {test_image(engine->config(), 1, 2, 3)}, 1), 8);
  const auto good = engine->submit(request)->answer().ids;
  saboteur.fail("extract_patches", 2);  // together and alone
  const auto stream = engine->submit(request);
  EXPECT_EQ(stream->answer().finish, FinishReason::kError);
  EXPECT_EQ(stream->answer().error->code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(engine->submit(request)->answer().ids, good);
  EXPECT_EQ(engine->stats().cache_blocks_used, 0);
}

TEST(FailingRequests, AProgressCallbackThatThrowsEndsItsRequestOnly) {
  const auto engine = test_engine(without_caches());
  Request request = test_request(test_prompt(engine->config(), 20, {test_image(engine->config(), 1, 2, 3)}, 1), 8);
  const auto good = engine->submit(request)->answer().ids;
  for (const Stage at : {Stage::kVision, Stage::kPrefill}) {
    Request bad = request;
    bad.progress = [at](Stage stage, int64_t, int64_t) {
      if (stage == at) throw std::runtime_error("not my day");
    };
    const auto failing = engine->submit(bad);
    const auto other = engine->submit(request);
    EXPECT_EQ(failing->answer().finish, FinishReason::kError);
    EXPECT_STREQ(failing->answer().error->what(), "not my day");
    EXPECT_EQ(other->answer().ids, good);
  }
}

// --- engines that cannot be made ---

class UntouchableSource : public WeightSource {
 public:
  TensorView get(const std::string& name, const Shape&) override {
    ADD_FAILURE() << name << " was loaded";
    throw Error(ErrorCode::kInternal, "loaded");
  }
};

void expect_no_engine(const EngineOptions& options, ErrorCode code, const std::vector<std::string>& parts) {
  UntouchableSource source;
  try {
    Engine::create(preset_config("test-tiny"), source, nullptr, options);
    FAIL() << "made, expected an error with " << parts.front();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    const std::string text = error.what();
    for (const std::string& part : parts) EXPECT_NE(text.find(part), text.npos) << part << " in: " << text;
  }
}

TEST(EngineOptions, TooLittleMemoryIsToldBeforeAnythingIsLoaded) {
  EngineOptions options;
  options.memory_limit = 100 << 10;
  expect_no_engine(options, ErrorCode::kOutOfMemory, {"100.0 KiB", "weights", "cache for 1024 tokens", "activations"});
}

TEST(EngineOptions, ImpossibleOnesAreRefused) {
  const auto changed = [](const std::function<void(EngineOptions&)>& change) {
    EngineOptions options;
    change(options);
    return options;
  };
  expect_no_engine(changed([](auto& o) { o.backend = "abacus"; }), ErrorCode::kInvalidArgument,
                   {"abacus", "reference"});
  expect_no_engine(changed([](auto& o) { o.max_context = -1; }), ErrorCode::kInvalidArgument, {"max_context"});
  expect_no_engine(changed([](auto& o) { o.max_context = 1; }), ErrorCode::kInvalidArgument, {"max_context"});
  expect_no_engine(changed([](auto& o) { o.max_context = INT64_MAX; }), ErrorCode::kInvalidArgument, {"max_context"});
  for (const int64_t bytes : {int64_t{-2}, INT64_MAX})
    expect_no_engine(changed([bytes](auto& o) { o.picture_cache_bytes = bytes; }), ErrorCode::kInvalidArgument,
                     {"picture_cache_bytes"});
  expect_no_engine(changed([](auto& o) { o.max_cached_tokens = -1; }), ErrorCode::kInvalidArgument, {"max_cached"});
  expect_no_engine(changed([](auto& o) { o.prefill_chunk = -1; }), ErrorCode::kInvalidArgument, {"prefill_chunk"});
  expect_no_engine(changed([](auto& o) { o.max_sequences = 0; }), ErrorCode::kInvalidArgument, {"max_sequences"});
  expect_no_engine(changed([](auto& o) { o.compute.threads = -3; }), ErrorCode::kInvalidArgument, {"-3 threads"});
  expect_no_engine(changed([](auto& o) { o.max_context = int64_t{1} << 30; }), ErrorCode::kOutOfMemory, {"shorter"});
}

TEST(EngineOptions, LoadingIsReportedTensorByTensor) {
  std::vector<int64_t> done;
  int64_t last_total = 0;
  EngineOptions options;
  options.progress = [&](Stage stage, int64_t n, int64_t total) {
    EXPECT_EQ(stage, Stage::kLoad);
    done.push_back(n);
    last_total = total;
  };
  const auto engine = test_engine(options);
  ASSERT_FALSE(done.empty());
  EXPECT_EQ(done.front(), 1);
  EXPECT_EQ(done.back(), last_total);
  EXPECT_EQ(static_cast<int64_t>(done.size()), last_total);
}

}  // namespace
}  // namespace vl2
