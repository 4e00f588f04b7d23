// The same tokens give the same bits: in one piece, in chunks of any size, alone or beside others, with any number of
// threads. Every kind of model on every backend.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "conformance/op_test.h"
#include "engine/cpu/cpu_ops.h"
#include "engine/model/moe.h"
#include "engine/model/sequence_runner.h"
#include "engine/model/test_variants.h"
#include "engine/model/trace_case.h"
#include "engine/model/visual_sequence.h"

namespace vl2::conformance {
namespace {

using Logits = SequenceRunner::Logits;

// What a sequence gave: the logits of every row, in order, and the tokens chosen after the prompt.
struct Outcome {
  std::vector<float> logits;
  std::vector<int32_t> tokens;
};

int32_t argmax(const float* row, int64_t n) { return static_cast<int32_t>(std::max_element(row, row + n) - row); }

// Prompts of this many tokens; the first holds a picture of 2 x 1 tiles, the last is long enough for every kernel to
// work in several pieces.
std::vector<SequenceInput> prompts(const ModelConfig& config, uint64_t seed, const std::vector<int64_t>& text_lengths) {
  Random random(seed);
  std::vector<SequenceInput> result;
  for (size_t i = 0; i < text_lengths.size(); ++i) {
    const int64_t visual = i == 0 ? num_visual_tokens(2, 1, config.tokens_per_side()) : 0;
    SequenceInput s;
    for (int64_t t = 0; t < text_lengths[i] + visual; ++t) {
      s.ids.push_back(static_cast<int32_t>(random.below(config.language.vocab_size)));
      s.is_image.push_back(t >= 2 && t < 2 + visual);
    }
    if (visual > 0) {
      s.images = {{2, 1}};
      for (int64_t p = 0; p < 3 * 3 * config.vision.image_size * config.vision.image_size; ++p)
        s.pixels.push_back(random.symmetric());
    }
    result.push_back(std::move(s));
  }
  return result;
}

// Runs all sequences together: each step takes the next `chunks[s]` tokens of a prompt (0: all of it) or one token of
// an answer, until every sequence has answered with `answer` tokens. starts[s]: the step a sequence joins at.
std::vector<Outcome> play(const DeepseekVl2& model, const std::vector<SequenceInput>& inputs,
                          const std::vector<int64_t>& chunks, const std::vector<int64_t>& starts, int64_t answer) {
  const int64_t vocab = model.config().language.vocab_size;
  SequenceRunner runner(model, inputs, answer);
  std::vector<Outcome> outcomes(inputs.size());
  for (int64_t step = 0;; ++step) {
    std::vector<SequenceRunner::Part> parts;
    bool waiting = false;
    for (size_t s = 0; s < inputs.size(); ++s) {
      const auto index = static_cast<int64_t>(s);
      const int64_t left = static_cast<int64_t>(runner.ids(index).size()) - runner.past(index);
      if (left == 0) continue;
      if (step < starts[s]) {
        waiting = true;
        continue;
      }
      parts.push_back({index, chunks[s] == 0 ? left : std::min(chunks[s], left)});
    }
    if (parts.empty() && !waiting) return outcomes;
    if (parts.empty()) continue;
    const std::vector<float> logits = runner.step(parts, Logits::kAll);
    int64_t row = 0;
    for (const SequenceRunner::Part& part : parts) {
      Outcome& o = outcomes[static_cast<size_t>(part.sequence)];
      o.logits.insert(o.logits.end(), logits.begin() + row * vocab, logits.begin() + (row + part.count) * vocab);
      row += part.count;
      const bool complete = runner.past(part.sequence) == static_cast<int64_t>(runner.ids(part.sequence).size());
      if (!complete || static_cast<int64_t>(o.tokens.size()) == answer) continue;
      o.tokens.push_back(argmax(logits.data() + (row - 1) * vocab, vocab));
      runner.append(part.sequence, o.tokens.back());
    }
  }
}

std::vector<Outcome> alone(const DeepseekVl2& model, const std::vector<SequenceInput>& inputs, int64_t chunk,
                           int64_t answer) {
  std::vector<Outcome> outcomes;
  for (const SequenceInput& input : inputs) outcomes.push_back(play(model, {input}, {chunk}, {0}, answer)[0]);
  return outcomes;
}

void expect_same_bits(const std::vector<Outcome>& actual, const std::vector<Outcome>& expected, int64_t vocab) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t s = 0; s < actual.size(); ++s) {
    EXPECT_EQ(actual[s].tokens, expected[s].tokens) << "sequence " << s;
    ASSERT_EQ(actual[s].logits.size(), expected[s].logits.size()) << "sequence " << s;
    const auto [a, e] = std::mismatch(actual[s].logits.begin(), actual[s].logits.end(), expected[s].logits.begin(),
                                      [](float x, float y) { return std::memcmp(&x, &y, sizeof x) == 0; });
    if (a == actual[s].logits.end()) continue;
    const int64_t at = a - actual[s].logits.begin();
    ADD_FAILURE() << "sequence " << s << " row " << at / vocab << " of " << expected[s].logits.size() / vocab
                  << " column " << at % vocab << ": " << *a << " instead of " << *e;
  }
}

// Where a library chooses how to add up by shape (Backend::same_bits): logits agree within the noise, and so do tokens
// while the margin exceeds it. What follows another token is another text. noise: of the root mean square.
void expect_close(const std::vector<Outcome>& actual, const std::vector<Outcome>& expected, int64_t vocab,
                  double noise) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t s = 0; s < actual.size(); ++s) {
    ASSERT_EQ(actual[s].logits.size(), expected[s].logits.size()) << "sequence " << s;
    const auto rows = static_cast<int64_t>(expected[s].logits.size()) / vocab;
    const auto answers = static_cast<int64_t>(expected[s].tokens.size());
    const int64_t prompt = std::max<int64_t>(rows - answers + 1, 0);
    double difference = 0, size = 0;
    int64_t compared = 0;
    for (int64_t row = 0; row < rows; ++row, ++compared) {
      const float *a = actual[s].logits.data() + row * vocab, *e = expected[s].logits.data() + row * vocab;
      for (int64_t i = 0; i < vocab; ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(e[i]);
        difference += d * d;
        size += static_cast<double>(e[i]) * static_cast<double>(e[i]);
      }
      const int64_t answer = row - (prompt - 1);
      if (answers == 0 || answer < 0 || answer >= answers) continue;
      const int32_t chosen = actual[s].tokens[static_cast<size_t>(answer)];
      const int32_t wanted = expected[s].tokens[static_cast<size_t>(answer)];
      if (chosen == wanted) continue;
      const double rms = std::sqrt(size / static_cast<double>((row + 1) * vocab));
      EXPECT_LE(static_cast<double>(e[wanted] - e[chosen]), 8 * noise * rms) << "sequence " << s << " row " << row;
      break;
    }
    EXPECT_LE(std::sqrt(difference), noise * std::sqrt(size)) << "sequence " << s << ", " << compared << " rows";
  }
}

struct ChunkCase {
  std::string backend, variant;
};
std::string test_name(const testing::TestParamInfo<ChunkCase>& info) {
  return info.param.backend + "_" + info.param.variant;
}
void PrintTo(const ChunkCase& c, std::ostream* out) { *out << c.backend << " " << c.variant; }

std::vector<ChunkCase> all_cases() {
  std::vector<ChunkCase> cases;
  std::vector<std::string> names = tested_backends();
  names.insert(names.begin(), "reference");
  for (const std::string& backend : names)
    for (const std::string& variant : variant_names()) {
      // A device in software takes minutes for each; the goldens of every variant run on it too.
      if (backend.starts_with("cuda_software") && variant != "tiny" && variant != "small") continue;
      cases.push_back({backend, variant});
    }
  return cases;
}

class Chunks : public testing::TestWithParam<ChunkCase> {
 protected:
  Chunks()
      : ops_(parity::backend(GetParam().backend).make()),
        source_(11),
        model_(variant_config(GetParam().variant), *ops_, source_),
        vocab_(model_.config().language.vocab_size) {}

  void expect_same(const std::vector<Outcome>& actual, const std::vector<Outcome>& expected, int64_t vocab) const {
    const parity::Backend& backend = parity::backend(GetParam().backend);
    if (backend.same_bits)
      expect_same_bits(actual, expected, vocab);
    else
      expect_close(actual, expected, vocab, backend.rounds ? 0.05 : 1e-4);
  }

  std::unique_ptr<Ops> ops_;
  RandomSource source_;
  DeepseekVl2 model_;
  int64_t vocab_;
};

TEST_P(Chunks, APromptGivesTheSameBitsInChunksOfAnySize) {
  const std::vector<SequenceInput> inputs = prompts(model_.config(), 1, {40, 97});
  const std::vector<Outcome> whole = alone(model_, inputs, 0, 4);
  for (const int64_t chunk : {1, 3, 16, 48, 50, 96}) {
    SCOPED_TRACE(fmt::format("chunks of {}", chunk));
    expect_same(alone(model_, inputs, chunk, 4), whole, vocab_);
  }
}

TEST_P(Chunks, ALongSequenceGivesTheSameBitsInChunks) {
  const std::vector<SequenceInput> inputs = {prompts(model_.config(), 2, {3, 301})[1]};
  const std::vector<Outcome> whole = alone(model_, inputs, 0, 3);
  expect_same(alone(model_, inputs, 64, 3), whole, vocab_);
  expect_same(alone(model_, inputs, 255, 3), whole, vocab_);
}

TEST_P(Chunks, NeighboursChangeNothing) {
  const std::vector<SequenceInput> inputs = prompts(model_.config(), 3, {30, 7, 61, 1});
  const std::vector<Outcome> lone = alone(model_, inputs, 0, 6);
  // All prompts at once; then answers beside chunks of prompts that join later.
  expect_same(play(model_, inputs, {0, 0, 0, 0}, {0, 0, 0, 0}, 6), lone, vocab_);
  expect_same(play(model_, inputs, {13, 0, 17, 0}, {2, 0, 1, 3}, 6), lone, vocab_);
  expect_same(play(model_, inputs, {1, 2, 5, 1}, {0, 4, 0, 9}, 6), lone, vocab_);
}

// The smallest distance of each row from another choice of experts, over all layers; of the steps of one sequence.
class Gaps : public StageTap {
 public:
  explicit Gaps(const LanguageConfig& config) : params_(router_params(config)) {}
  bool wants_layer_details() const override { return false; }
  void stage(const std::string& name, Tensor) override {
    if (name == "inputs_embeds") step_ = rows_.size();
  }
  void routing(int64_t, const Routing& routing) override {
    rows_.resize(std::max(rows_.size(), step_ + static_cast<size_t>(routing.num_tokens)), INFINITY);
    for (int64_t t = 0; t < routing.num_tokens; ++t) {
      float& gap = rows_[step_ + static_cast<size_t>(t)];
      gap = std::min(gap, selection_gap(routing, t, params_));
    }
  }
  const std::vector<float>& rows() const { return rows_; }

 private:
  const RouterParams params_;
  std::vector<float> rows_;
  size_t step_ = 0;  // first row of the step
};

// Where activations are rounded, a row that is summed up in another order may choose other experts in a near tie, and
// what it leaves in the cache changes the rows behind it: no noise then, but another path through the model. So rows
// agree within the noise up to the first that parts, and that one is no earlier than the first near tie. Scores are
// probabilities; the noise of bfloat16 in the rows they are computed from moves them by less than kTie.
void expect_close_but_for_ties(const std::vector<float>& actual, const std::vector<float>& expected, int64_t vocab,
                               double noise, const std::vector<float>& gaps) {
  constexpr float kTie = 2e-3f;
  ASSERT_EQ(actual.size(), expected.size());
  double difference = 0, size = 0;
  bool tied = false;
  for (size_t row = 0; row * static_cast<size_t>(vocab) < expected.size(); ++row) {
    double row_difference = 0, row_size = 0;
    for (size_t i = row * static_cast<size_t>(vocab); i < (row + 1) * static_cast<size_t>(vocab); ++i) {
      const double e = expected[i], d = static_cast<double>(actual[i]) - e;
      row_difference += d * d, row_size += e * e;
    }
    tied = tied || (row < gaps.size() && gaps[row] <= kTie);
    if (!(std::sqrt(row_difference) <= 2 * noise * std::sqrt(row_size))) {
      EXPECT_TRUE(tied && std::isfinite(row_difference))
          << "row " << row << " is off by " << std::sqrt(row_difference / row_size) << " without a near tie";
      break;
    }
    difference += row_difference, size += row_size;
  }
  EXPECT_LE(std::sqrt(difference), noise * std::sqrt(size));
}

// The logits of `tokens` as an answer to `prompt`: `rows` of them a step, which takes `wrong` tokens after the right
// ones and forgets them again. `others`: sequences that answer with the same tokens meanwhile, one a step.
std::vector<float> answer_rows(const DeepseekVl2& model, const SequenceInput& prompt,
                               const std::vector<int32_t>& tokens, int64_t rows, int64_t wrong, int64_t others = 0,
                               StageTap* tap = nullptr) {
  const int64_t vocab = model.config().language.vocab_size, length = static_cast<int64_t>(prompt.ids.size());
  const auto count = static_cast<int64_t>(tokens.size());
  SequenceRunner runner(model, std::vector<SequenceInput>(static_cast<size_t>(1 + others), prompt), count + wrong);
  runner.step_all(Logits::kNone);
  std::vector<float> result;
  for (int64_t done = 0; done < count;) {
    const int64_t right = std::min(rows, count - done);
    std::vector<SequenceRunner::Part> parts;
    for (int64_t s = 1; s <= others; ++s) {
      runner.append(s, tokens[static_cast<size_t>(done)]);
      if (s % 2 == 1) parts.push_back({s, 1});
    }
    for (int64_t i = 0; i < right; ++i) runner.append(0, tokens[static_cast<size_t>(done + i)]);
    for (int64_t i = 0; i < wrong; ++i) runner.append(0, static_cast<int32_t>((7 * (done + i) + 3) % vocab));
    const size_t before = parts.size();
    parts.push_back({0, right + wrong});
    for (int64_t s = 2; s <= others; s += 2) parts.push_back({s, 1});
    const std::vector<float> logits = runner.step(parts, Logits::kAll, tap);
    const auto first = logits.begin() + static_cast<int64_t>(before) * vocab;
    result.insert(result.end(), first, first + right * vocab);
    done += right;
    runner.rewind(0, length + done);
  }
  return result;
}

TEST_P(Chunks, AnAnswerGivesTheSameBitsSeveralTokensAStepAndAfterTokensThatAreTakenBack) {
  const std::vector<SequenceInput> inputs = prompts(model_.config(), 5, {9, 250});
  Random random(6);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 22; ++i) tokens.push_back(static_cast<int32_t>(random.below(vocab_)));
  for (const SequenceInput& input : inputs) {  // the longer one crosses the end of a piece of keys
    const std::vector<float> expected = answer_rows(model_, input, tokens, 1, 0);
    Gaps gaps(model_.config().language);
    if (!parity::backend(GetParam().backend).same_bits) (void)answer_rows(model_, input, tokens, 1, 0, 0, &gaps);
    const auto expect_same_rows = [&](const std::vector<float>& actual) {
      const parity::Backend& backend = parity::backend(GetParam().backend);
      if (backend.same_bits || !backend.rounds)
        expect_same({{actual, {}}}, {{expected, {}}}, vocab_);
      else
        expect_close_but_for_ties(actual, expected, vocab_, 0.05, gaps.rows());
    };
    for (const int64_t rows : {2, 5, 9, 22})
      for (const int64_t wrong : {0, 3}) {
        SCOPED_TRACE(fmt::format("{} rows, {} taken back", rows, wrong));
        expect_same_rows(answer_rows(model_, input, tokens, rows, wrong));
      }
    expect_same_rows(answer_rows(model_, input, tokens, 4, 2, 3));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Chunks, testing::ValuesIn(all_cases()), test_name);

class Threads : public testing::TestWithParam<ChunkCase> {};

TEST_P(Threads, TheirNumberChangesNothing) {
  const std::string& name = GetParam().backend;
  const bool rounds = name.ends_with("_bf16compute");
  const std::string isa = name.substr(4, rounds ? name.size() - 4 - std::string("_bf16compute").size() : name.npos);
  const ModelConfig config = variant_config(GetParam().variant);
  const std::vector<SequenceInput> inputs = prompts(config, 4, {20, 130});
  std::vector<Outcome> expected;
  for (const int threads : {1, 2, 3, 7}) {
    SCOPED_TRACE(fmt::format("{} threads", threads));
    const auto ops =
        make_cpu_ops({.threads = threads, .compute = rounds ? Compute::kBF16 : Compute::kF32, .isa = parse_isa(isa)});
    RandomSource source(11);
    const DeepseekVl2 model(config, *ops, source);
    std::vector<Outcome> outcomes = play(model, inputs, {0, 60}, {0, 0}, 4);
    if (expected.empty())
      expected = std::move(outcomes);
    else
      expect_same_bits(outcomes, expected, config.language.vocab_size);
  }
}

std::vector<ChunkCase> cpu_cases() {
  std::vector<ChunkCase> cases;
  for (const std::string& backend : tested_backends())
    if (backend.starts_with("cpu_"))
      for (const char* variant : {"tiny", "base"}) cases.push_back({backend, variant});
  return cases;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Threads);  // without the CPU backend

INSTANTIATE_TEST_SUITE_P(Backends, Threads, testing::ValuesIn(cpu_cases()), test_name);

}  // namespace
}  // namespace vl2::conformance
