// Constrained answers of a whole engine with nano: valid, and nobody else's business.
#include <algorithm>
#include <cmath>

#include "core/text/grounding.h"
#include "engine/constrain/grounding_score.h"
#include "runtime/nano_goldens.h"

namespace vl2 {
namespace {

using nlohmann::json;

constexpr const char* kSchema =
    R"({"$schema":"https://json-schema.org/draft/2020-12/schema","title":"Answer","type":"object","properties":{
        "answer":{"type":"string","maxLength":12},"count":{"type":"integer","minimum":0,"maximum":20},
        "boxes":{"type":"array","items":{"type":"array","items":{"type":"number","minimum":0,"maximum":1},"minItems":4,
        "maxItems":4},"maxItems":2},"sure":{"type":"boolean"}},"required":["answer","count","boxes","sure"],
        "additionalProperties":false})";

class ConstrainedAnswers : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    EngineOptions options;
    options.compute.threads = 2;
    options.max_sequences = 8;
    options.max_cached_tokens = 8 * 1024;
    engine_ = Engine::open(nano_folder(), options);
    goldens_ = nano_goldens();
  }
  static void TearDownTestSuite() { engine_.reset(); }

  static Answer ask(size_t golden, const ConstraintSpec& spec, double temperature = 0, uint64_t seed = 0,
                    int64_t max_new_tokens = 300) {
    return engine_->submit(request(golden, spec, temperature, seed, max_new_tokens))->answer();
  }
  static Request request(size_t golden, const ConstraintSpec& spec, double temperature = 0, uint64_t seed = 0,
                         int64_t max_new_tokens = 300) {
    Request request = nano_request(goldens_[golden], *engine_);
    request.constraint = engine_->compile(spec);
    request.sampling.temperature = temperature;
    request.sampling.seed = seed;
    request.max_new_tokens = max_new_tokens;
    return request;
  }

  static inline std::unique_ptr<Engine> engine_;
  static inline std::vector<NanoGolden> goldens_;
};

void expect_valid(const Answer& answer) {
  ASSERT_FALSE(answer.error) << answer.error->what();
  ASSERT_EQ(answer.finish, FinishReason::kStop) << answer.text;
  const json value = json::parse(answer.text, nullptr, false);
  ASSERT_TRUE(value.is_object()) << answer.text;
  ASSERT_EQ(value.size(), 4u) << answer.text;
  EXPECT_TRUE(value["answer"].is_string());
  EXPECT_TRUE(value["count"].is_number_integer() && value["count"] >= 0 && value["count"] <= 20) << answer.text;
  EXPECT_TRUE(value["sure"].is_boolean());
  ASSERT_LE(value["boxes"].size(), 2u);
  for (const json& box : value["boxes"]) {
    ASSERT_EQ(box.size(), 4u);
    for (const json& n : box) EXPECT_TRUE(n.is_number() && n >= 0 && n <= 1) << answer.text;
  }
}

TEST(SamplerMask, RulesOutWhatIsLikelierBeforeAnyFilter) {
  const std::vector<float> logits = {5, 4, 1, 2, 3};
  TokenMask mask;
  mask.bits = {0b01100};  // 2 and 3
  SamplingParams params;
  EXPECT_EQ(Sampler(params, 5, 5, {}).sample(logits, &mask), 3);
  params.temperature = 1;
  params.top_k = 2;
  const std::vector<double> p = Sampler(params, 5, 5, {}).probabilities(logits, &mask);
  EXPECT_NEAR(p[3], 1 / (1 + std::exp(-1.0)), 1e-12);
  EXPECT_NEAR(p[2] + p[3], 1, 1e-12);
  params.top_p = 0.5;
  EXPECT_EQ(Sampler(params, 5, 5, {}).probabilities(logits, &mask)[3], 1);
  params = {};
  params.no_repeat_ngram_size = 1;
  EXPECT_EQ(Sampler(params, 5, 5, std::vector<int32_t>{3}).sample(logits, &mask), 2) << "the ban holds where it can";
  EXPECT_EQ(Sampler(params, 5, 5, std::vector<int32_t>{3, 2}).sample(logits, &mask), 3) << "and gives way where not";
  mask.bits = {0};
  EXPECT_THROW(Sampler(params, 5, 5, {}).sample(logits, &mask), Error);
}

TEST_F(ConstrainedAnswers, AreValidWhileNeighboursAnswerAsIfAlone) {
  std::vector<std::shared_ptr<TokenStream>> constrained, free;
  for (size_t i = 0; i < 4; ++i) {
    free.push_back(engine_->submit(nano_request(goldens_[i], *engine_)));
    constrained.push_back(engine_->submit(request(i, ConstraintSpec::json_schema(kSchema), i % 2 == 0 ? 0.0 : 1.5, i)));
  }
  for (size_t i = 0; i < free.size(); ++i) expect_golden_answer(goldens_[i], free[i]->answer());
  for (const auto& stream : constrained) expect_valid(stream->answer());
}

TEST_F(ConstrainedAnswers, DoNotDependOnDraftsOrNeighbours) {
  std::vector<std::vector<int32_t>> answers;
  for (const Speculation speculation : {Speculation::kOff, Speculation::kAlways}) {
    Request r = request(2, ConstraintSpec::json_schema(kSchema), 1.2, 11);
    r.speculation = speculation;
    const Answer answer = engine_->submit(std::move(r))->answer();
    expect_valid(answer);
    answers.push_back(answer.ids);
  }
  EXPECT_EQ(answers[0], answers[1]);
}

TEST_F(ConstrainedAnswers, AreOneOfTheChoicesEachWithItsEnd) {
  const std::vector<std::string> choices = {"red", "green", "blue", "something else"};
  for (size_t i = 0; i < 6; ++i) {
    const Answer answer = ask(i, ConstraintSpec::one_of(choices), i < 3 ? 0 : 2, i);
    EXPECT_EQ(answer.finish, FinishReason::kStop);
    EXPECT_NE(std::find(choices.begin(), choices.end(), answer.text), choices.end()) << answer.text;
  }
}

TEST_F(ConstrainedAnswers, OfLocatedThingsHaveBoxesThatParse) {
  size_t found = 0;
  for (size_t i = 0; i < goldens_.size(); ++i) {
    if (goldens_[i].answer.find("<|det|>") == std::string::npos || found == 3) continue;
    ++found;
    const auto stream = engine_->submit(request(i, ConstraintSpec::grounding()));
    std::vector<float> logprobs;
    while (const auto token = stream->next()) logprobs.push_back(token->logprob);
    const Answer& answer = stream->answer();
    EXPECT_EQ(answer.text, goldens_[i].answer) << "a good answer is left as it is";
    const auto objects = score_grounding(engine_->tokenizer(), answer.ids, logprobs);
    const auto parsed = parse_grounding(answer.text).objects;
    ASSERT_EQ(objects.size(), parsed.size());
    for (size_t k = 0; k < objects.size(); ++k) {
      EXPECT_EQ(objects[k].label, parsed[k].label);
      ASSERT_EQ(objects[k].boxes.size(), parsed[k].boxes.size());
      for (size_t b = 0; b < objects[k].boxes.size(); ++b) {
        EXPECT_EQ(objects[k].boxes[b].box, parsed[k].boxes[b]);
        EXPECT_GT(objects[k].boxes[b].score, 0.02);
        EXPECT_LE(objects[k].boxes[b].score, 1);
      }
    }
  }
  EXPECT_EQ(found, 3u);
}

TEST_F(ConstrainedAnswers, ThatAreCutOffEndAsLength) {
  const Answer answer = ask(0, ConstraintSpec::json_schema(kSchema), 0, 0, 5);
  EXPECT_EQ(answer.finish, FinishReason::kLength);
  EXPECT_EQ(answer.ids.size(), 5u);
  EXPECT_TRUE(answer.text.starts_with("{")) << answer.text;
}

TEST_F(ConstrainedAnswers, RepeatWhatTheyMustInSpiteOfABan) {
  Request r = request(1, ConstraintSpec::regex("(ab){12}"));
  r.sampling.no_repeat_ngram_size = 2;
  EXPECT_EQ(engine_->submit(std::move(r))->answer().text, "abababababababababababab");
}

TEST_F(ConstrainedAnswers, WithAnErrorTakeNobodyWithThem) {
  // 30 ways in, each with 30 ways on: refused at the step where they are all open.
  const auto branches = [](const std::string& inner) {
    std::string all;
    for (int i = 0; i < 30; ++i) {
      if (i > 0) all += ",";
      all += R"({"type":"object","properties":{"c":)";
      all += inner;
      all += R"(},"required":["c"]})";
    }
    return R"({"anyOf":[)" + all + "]}";
  };
  const auto spec =
      ConstraintSpec::json_schema(R"({"$ref":"#/$defs/a","$defs":{"a":)" + branches(R"({"$ref":"#/$defs/b"})") +
                                  R"(,"b":)" + branches(R"({"type":"integer"})") + "}}");
  Request bad = request(0, ConstraintSpec::json_object(), 1.5, 3);
  bad.constraint = engine_->compile(spec);
  std::vector<std::shared_ptr<TokenStream>> doomed;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    bad.sampling.seed = seed;
    doomed.push_back(engine_->submit(bad));
  }
  const auto neighbour = engine_->submit(nano_request(goldens_[3], *engine_));
  size_t errors = 0;
  for (const auto& stream : doomed) {
    const Answer& answer = stream->answer();
    ASSERT_TRUE(answer.error) << answer.text;
    ++errors;
    EXPECT_EQ(answer.error->code(), ErrorCode::kInvalidArgument) << answer.error->what();
  }
  EXPECT_EQ(errors, 6u);
  expect_golden_answer(goldens_[3], neighbour->answer());
}

TEST_F(ConstrainedAnswers, AreRefusedWhereTheyCannotWork) {
  Request endless = request(0, ConstraintSpec::json_object());
  endless.ignore_eos = true;
  EXPECT_THROW(engine_->submit(std::move(endless)), Error);
  Request foreign = request(0, ConstraintSpec::json_object());
  ConstraintCompiler other(engine_->processor().shared_tokenizer(), 7);
  foreign.constraint = other.compile(ConstraintSpec::json_object());
  EXPECT_THROW(engine_->submit(std::move(foreign)), Error);
  EXPECT_THROW(engine_->compile(ConstraintSpec::regex("(")), Error);
}

}  // namespace
}  // namespace vl2
