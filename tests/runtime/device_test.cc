// The engine on a device whose memory is not the host's: the CUDA backend in software. What is fetched of a row of
// logits depends on what a request's choices take; answers do not.
#include <gtest/gtest.h>

#include <atomic>
#include <limits>

#include "engine/runtime/engine_test.h"

namespace vl2 {
namespace {

std::unique_ptr<Engine> engine_on(const std::string& backend, int64_t gpu_layers = -1) {
  EngineOptions options;
  options.compute.compute = Compute::kF32;
  options.compute.gpu_layers = gpu_layers;
  options.max_context = 128;
  return test_engine(TestBackend{backend, ""}, options);
}

Request question(const ModelConfig& config, int64_t tokens = 3) {
  return test_request(test_prompt(config, 9, {}, 3), tokens);
}

std::vector<TokenEvent> ask(Engine& engine, const Request& request) {
  std::vector<TokenEvent> events;
  const auto stream = engine.submit(request);
  while (auto event = stream->next()) events.push_back(*event);
  return events;
}

// The ids and, to rounding, their probabilities and those of others.
void expect_same(const std::vector<TokenEvent>& found, const std::vector<TokenEvent>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].id, expected[i].id) << "token " << i;
    EXPECT_NEAR(found[i].logprob, expected[i].logprob, 1e-4) << "token " << i;
    ASSERT_EQ(found[i].top.size(), expected[i].top.size());
    for (size_t k = 0; k < found[i].top.size(); ++k) EXPECT_EQ(found[i].top[k].id, expected[i].top[k].id);
  }
}

TEST(EngineOnADevice, AnswersAsOnTheHostWhateverAChoiceTakes) {
  const auto device = engine_on("cuda"), host = engine_on("reference");
  EXPECT_EQ(device->backend(), "cuda-software");
  std::vector<Request> requests(4, question(host->config()));
  requests[1].top_logprobs = 3;
  requests[2].sampling.temperature = 0.8;
  requests[2].sampling.seed = 5;
  requests[3].sampling.repetition_penalty = 1.5;
  for (const Request& request : requests) expect_same(ask(*device, request), ask(*host, request));
}

TEST(EngineOnADevice, OnlyChoicesThatTakeMoreThanTheBestFetchRows) {
  class Fetched : public EngineObserver {
   public:
    void on_step(const StepReport& report) override { logits += report.fetched_logits; }
    std::atomic<int64_t> logits = 0;
  } fetched;
  EngineOptions options;
  options.compute.compute = Compute::kF32;
  options.max_context = 128;
  options.observer = &fetched;
  const auto device = test_engine(TestBackend{"cuda", ""}, options);
  ask(*device, question(device->config(), 4));
  EXPECT_EQ(fetched.logits, 0);
  Request sampled = question(device->config(), 4);
  sampled.sampling.temperature = 1;
  ask(*device, sampled);
  EXPECT_EQ(fetched.logits, 4 * device->config().language.vocab_size);
}

TEST(EngineOnADevice, WithExpertsLeftToTheHost) {
  const auto divided = engine_on("cuda", 1), host = engine_on("reference");
  EXPECT_EQ(divided->gpu_layers(), 1);
  EXPECT_EQ(host->gpu_layers(), -1);
  EXPECT_GT(divided->memory().host_experts, 0);
  expect_same(ask(*divided, question(host->config())), ask(*host, question(host->config())));
  EXPECT_THROW(engine_on("cpu", 1), Error);
}

// A model whose every logit is no number: the error is that of the host, with the token.
class NoNumbers : public WeightSource {
 public:
  TensorView get(const std::string& name, const Shape& shape) override {
    TensorView tensor = random_.get(name, shape);
    if (name != "language.lm_head.weight") return tensor;
    values_.assign(static_cast<size_t>(tensor.size()), to_bf16(std::numeric_limits<float>::quiet_NaN()));
    tensor.data = reinterpret_cast<const std::byte*>(values_.data());
    return tensor;
  }

 private:
  RandomSource random_{kTestSeed};
  std::vector<BF16> values_;
};

TEST(EngineOnADevice, LogitsThatAreNoNumbersAreNamed) {
  NoNumbers source;
  EngineOptions options;
  options.backend = "cuda";
  options.max_context = 128;
  const auto engine = Engine::create(preset_config("test-tiny"), source, byte_tokenizer(), options);
  try {
    ask(*engine, question(engine->config(), 1));
    FAIL() << "an answer of no numbers";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
    EXPECT_NE(std::string(error.what()).find("logit of token 0 is nan"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vl2
