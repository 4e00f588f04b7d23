// The engine on a device whose memory is not the host's: the CUDA backend in software. Tokens are chosen there, as they
// would be on the host.
#include <gtest/gtest.h>

#include <atomic>
#include <limits>

#include "engine/runtime/engine_test.h"

namespace vl2 {
namespace {

class Counted : public EngineObserver {
 public:
  void on_step(const StepReport& report) override {
    logits += report.fetched_logits;
    drafted += report.drafted_tokens;
  }
  std::atomic<int64_t> logits = 0, drafted = 0;
};

std::unique_ptr<Engine> engine_on(const std::string& backend, int64_t gpu_layers = -1,
                                  EngineObserver* observer = nullptr) {
  EngineOptions options;
  options.observer = observer;
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

TEST(EngineOnADevice, AnswersAsOnTheHostByWhateverRules) {
  const auto device = engine_on("cuda"), host = engine_on("reference");
  EXPECT_EQ(device->backend(), "cuda-software");
  std::vector<Request> requests(7, question(host->config()));
  requests[1].top_logprobs = 3;
  for (const size_t sampled : {2, 3, 4, 5}) {
    requests[sampled].sampling.temperature = 0.8;
    requests[sampled].sampling.seed = 5 + sampled;
  }
  requests[3].sampling.top_p = 0.7;
  requests[3].top_logprobs = 20;
  requests[4].sampling.top_k = 9;
  requests[4].sampling.min_p = 0.05;
  requests[5].sampling.logit_bias = {{7, 3.0}};
  requests[5].sampling.presence_penalty = 0.5;
  requests[6].sampling.repetition_penalty = 1.5;
  requests[6].sampling.no_repeat_ngram_size = 2;
  for (const Request& request : requests) expect_same(ask(*device, request), ask(*host, request));
}

TEST(EngineOnADevice, DraftsAreJudgedAsOnTheHost) {
  Counted counted;
  const auto device = engine_on("cuda", -1, &counted), host = engine_on("reference");
  for (const double temperature : {0.0, 0.9}) {
    Request request = question(host->config(), 12);
    // Two tokens by turns: whichever is drawn has been said before.
    request.sampling.logit_bias = {{5, 60.0}, {6, 60.0}};
    request.speculation = Speculation::kAlways;
    request.sampling.temperature = temperature;
    request.sampling.seed = 3;
    const int64_t before = counted.drafted;
    expect_same(ask(*device, request), ask(*host, request));
    EXPECT_GT(counted.drafted, before);
  }
  EXPECT_EQ(counted.logits, 0);
}

// No row of logits leaves the device but where a constraint is asked what it allows.
TEST(EngineOnADevice, OnlyConstraintsFetchRows) {
  Counted counted;
  const auto device = engine_on("cuda", -1, &counted);
  Request request = question(device->config(), 4);
  ask(*device, request);
  request.sampling.temperature = 1;
  request.sampling.repetition_penalty = 1.2;
  request.top_logprobs = 5;
  ask(*device, request);
  EXPECT_EQ(counted.logits, 0);
  request.ignore_eos = false;
  request.constraint = device->compile(ConstraintSpec::regex("[a-z]{9}"));
  ask(*device, request);
  EXPECT_EQ(counted.logits, 4 * device->config().language.vocab_size);
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
