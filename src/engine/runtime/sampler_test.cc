#include "engine/runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/test_data.h"
#include "engine/backends.h"

namespace vl2 {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Sampler sampler(const SamplingParams& params, int64_t vocab, const std::vector<int32_t>& prompt = {}) {
  return Sampler(params, vocab, vocab, prompt);
}

template <typename Fn>
ErrorCode code_of(const Fn& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

std::vector<int32_t> kept(const SamplingParams& params, const std::vector<float>& logits,
                          const std::vector<int32_t>& prompt = {}) {
  const std::vector<double> p = sampler(params, static_cast<int64_t>(logits.size()), prompt).probabilities(logits);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < p.size(); ++i)
    if (p[i] > 0) ids.push_back(static_cast<int32_t>(i));
  return ids;
}

TEST(Sampler, MatchesTheGoldenDistributions) {
  VL2_NEED_SHARED(shared);
  const auto cases = nlohmann::json::parse(read_file(shared / "golden/ops/sampling.json"))["cases"];
  ASSERT_GE(cases.size(), 24u);
  for (const auto& c : cases) {
    const auto logits = c["logits"].get<std::vector<float>>();
    const auto expected = c["probs"].get<std::vector<double>>();
    SamplingParams params;
    params.temperature = c["temperature"];
    params.top_k = c["top_k"];
    params.top_p = c["top_p"];
    params.repetition_penalty = c["repetition_penalty"];
    const auto prompt = c["prev_ids"].get<std::vector<int32_t>>();
    const std::vector<double> probs =
        sampler(params, static_cast<int64_t>(logits.size()), prompt).probabilities(logits);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(probs[i], expected[i], 2e-6 * std::max(expected[i], 0.05)) << c.dump();
      ASSERT_EQ(probs[i] == 0, expected[i] == 0) << i;
    }
  }
}

TEST(Sampler, GreedyTakesTheFirstOfEqualsAndNeedsNoLuck) {
  SamplingParams params;
  params.top_k = 1;  // without meaning at temperature 0
  for (uint64_t seed = 0; seed < 5; ++seed) {
    params.seed = seed;
    Sampler greedy = sampler(params, 4);
    EXPECT_EQ(greedy.sample(std::vector<float>{-1, 3, 3, 2}), 1);
    EXPECT_EQ(greedy.sample(std::vector<float>{-kInf, -9, -kInf, -8}), 3);
  }
}

TEST(Sampler, ThePenaltyCountsEachIdOnceAndPushesDownBothSigns) {
  SamplingParams params;
  params.repetition_penalty = 2.0;
  EXPECT_EQ(sampler(params, 3, {0, 0, 0}).sample(std::vector<float>{4, 1.9f, 1}), 0) << "4 / 2 once, not three times";
  EXPECT_EQ(sampler(params, 3, {0}).sample(std::vector<float>{4, 2.1f, 1}), 1);
  EXPECT_EQ(sampler(params, 2, {0}).sample(std::vector<float>{-1, -1.5f}), 1) << "-1 becomes -2";
  params.temperature = 1;
  const auto p = sampler(params, 2, {0}).probabilities(std::vector<float>{2, 1});
  EXPECT_NEAR(p[0], 0.5, 1e-12);
}

TEST(Sampler, WhatWasGeneratedCountsAsSeen) {
  SamplingParams params;
  params.repetition_penalty = 2.0;
  Sampler greedy = sampler(params, 3);
  const std::vector<float> logits = {4, 3, 2.5f};
  EXPECT_EQ(greedy.sample(logits), 0);
  EXPECT_EQ(greedy.sample(logits), 1);
  EXPECT_EQ(greedy.sample(logits), 2);
  EXPECT_EQ(greedy.sample(logits), 0);
  EXPECT_EQ(greedy.history(), (std::vector<int32_t>{0, 1, 2, 0}));
}

TEST(Sampler, TopKKeepsWhatEqualsTheLast) {
  SamplingParams params;
  params.temperature = 1;
  params.top_k = 2;
  EXPECT_EQ(kept(params, {1, 5, 3, 4}), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(kept(params, {4, 5, 3, 4}), (std::vector<int32_t>{0, 1, 3}));
  params.top_k = 100;
  EXPECT_EQ(kept(params, {4, 5, 3, 4}).size(), 4u);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatHoldsP) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f), std::log(0.25f)};
  SamplingParams params;
  params.temperature = 1;
  const auto at = [&](double p) {
    params.top_p = p;
    return kept(params, logits);
  };
  EXPECT_EQ(at(0.0), (std::vector<int32_t>{1}));
  EXPECT_EQ(at(0.49), (std::vector<int32_t>{1}));
  EXPECT_EQ(at(0.51), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(at(0.89), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(at(0.91), (std::vector<int32_t>{0, 1, 2, 3}));
  params.top_k = 2;  // first, so the rest is two thirds and one third
  EXPECT_EQ(at(0.6), (std::vector<int32_t>{1}));
  EXPECT_EQ(at(0.7), (std::vector<int32_t>{1, 3}));
}

TEST(Sampler, MinPIsRelativeToTheMostLikely) {
  const std::vector<float> logits = {std::log(0.1f), std::log(0.5f), std::log(0.15f), std::log(0.25f)};
  SamplingParams params;
  params.temperature = 1;
  params.min_p = 0.29;
  EXPECT_EQ(kept(params, logits), (std::vector<int32_t>{1, 2, 3}));
  params.min_p = 1.0;
  EXPECT_EQ(kept(params, logits), (std::vector<int32_t>{1}));
}

TEST(Sampler, NoNgramComesTwice) {
  SamplingParams params;
  params.temperature = 1;
  const std::vector<float> logits(5, 0.0f);
  params.no_repeat_ngram_size = 1;
  EXPECT_EQ(kept(params, logits, {0, 3, 3}), (std::vector<int32_t>{1, 2, 4}));
  params.no_repeat_ngram_size = 2;
  EXPECT_EQ(kept(params, logits, {1, 2, 1, 3, 1}), (std::vector<int32_t>{0, 1, 4}));
  params.no_repeat_ngram_size = 3;
  EXPECT_EQ(kept(params, logits, {1, 2, 4, 1, 2}), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(kept(params, logits, {1, 2}).size(), 5u);
  params.no_repeat_ngram_size = 3;
  params.temperature = 0;
  Sampler greedy = sampler(params, 3);
  std::vector<int32_t> out;
  for (int i = 0; i < 7; ++i) out.push_back(greedy.sample(std::vector<float>{2, 1, 0}));
  EXPECT_EQ(out, (std::vector<int32_t>{0, 0, 0, 1, 0, 0, 2}));
}

TEST(Sampler, IdsBeyondTheTokenizerAreNeverChosen) {
  const std::vector<float> logits = {1, 2, 9, 9};
  SamplingParams params;
  EXPECT_EQ(Sampler(params, 4, 2, {}).sample(logits), 1);
  params.temperature = 5;
  const auto p = Sampler(params, 4, 2, {}).probabilities(logits);
  EXPECT_EQ(p[2] + p[3], 0);
  EXPECT_NEAR(p[0] + p[1], 1, 1e-12);
}

// By the definitions, with a sort; p is of ids in their order.
std::vector<double> slowly(const SamplingParams& params, const std::vector<float>& logits) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  std::vector<double> p(logits.size());
  const double top = logits[order[0]];
  for (const size_t i : order) p[i] = std::exp((logits[i] - top) / params.temperature);
  if (params.top_k > 0)
    for (const size_t i : order)
      if (logits[i] < logits[order[static_cast<size_t>(params.top_k) - 1]]) p[i] = 0;
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  double held = 0;
  for (const size_t i : order) {
    const double own = p[i];
    if (held >= params.top_p * all && held > 0) p[i] = 0;
    held += own;
  }
  for (const size_t i : order)
    if (p[i] < params.min_p * p[order[0]]) p[i] = 0;
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& one : p) one /= total;
  return p;
}

TEST(Sampler, AWholeVocabularyIsFilteredAsTheDefinitionsSay) {
  Random random(5);
  for (const float spread : {0.01f, 1.0f, 12.0f}) {
    std::vector<float> logits(20011);
    for (float& logit : logits) logit = random.symmetric(spread);
    for (size_t i = 0; i < logits.size(); i += 100) logits[i] = logits[17];  // equals
    for (const double temperature : {0.1, 1.0, 3.0})
      for (const double top_p : {0.0, 0.3, 0.9, 0.999999, 1.0})
        for (const int64_t top_k : {0, 1, 50, 20011, 30000})
          for (const double min_p : {0.0, 0.05}) {
            SamplingParams params{.temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p};
            const auto p = sampler(params, 20011).probabilities(logits);
            if (top_k == 30000) params.top_k = 0;
            const auto expected = slowly(params, logits);
            for (size_t i = 0; i < p.size(); ++i)
              ASSERT_NEAR(p[i], expected[i], 1e-11) << i << " of spread " << spread << ", " << temperature << ", "
                                                    << top_p << ", " << top_k << ", " << min_p;
          }
  }
}

TEST(Sampler, DrawsAsOftenAsTheDistributionSays) {
  SamplingParams params;
  params.temperature = 1;
  params.seed = 3;
  Sampler random = sampler(params, 4);
  const std::vector<float> logits = {std::log(0.1f), std::log(0.2f), -kInf, std::log(0.7f)};
  std::vector<int> counts(4);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(random.sample(logits))];
  EXPECT_EQ(counts[2], 0);
  // Five standard deviations of a binomial.
  for (const auto& [id, p] : {std::pair{size_t{0}, 0.1}, {size_t{1}, 0.2}, {size_t{3}, 0.7}})
    EXPECT_NEAR(counts[id], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << id;
}

TEST(Sampler, TheSeedDecidesTheDraws) {
  const std::vector<float> logits(50, 0.0f);
  const auto draws = [&](uint64_t seed) {
    SamplingParams params;
    params.temperature = 1;
    params.top_p = 0.95;
    params.seed = seed;
    Sampler random = sampler(params, 50);
    for (int i = 0; i < 20; ++i) random.sample(logits);
    return random.history();
  };
  EXPECT_EQ(draws(1), draws(1));
  EXPECT_NE(draws(1), draws(2));
}

TEST(Sampler, ExtremeButLegalValuesStayProbabilities) {
  const std::vector<float> logits = {3.0e38f, -3.0e38f, 2.9e38f, -kInf};
  for (const double temperature : {1e-300, 1e-6, 1.0, 100.0}) {
    SamplingParams params;
    params.temperature = temperature;
    params.repetition_penalty = 100;
    const auto p = sampler(params, 4, {1}).probabilities(logits);
    EXPECT_NEAR(p[0], 1, 1e-12) << temperature;
  }
}

TEST(Sampler, BrokenLogitsAreAnErrorThatNamesTheToken) {
  for (const double temperature : {0.0, 1.0})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInf}) {
      SamplingParams params;
      params.temperature = temperature;
      Sampler s = sampler(params, 3);
      EXPECT_EQ(code_of([&] { s.sample(std::vector<float>{0, 1, bad}); }), ErrorCode::kCorrupt);
      EXPECT_EQ(code_of([&] { log_sum_exp(std::vector<float>{0, 1, bad}); }), ErrorCode::kCorrupt);
      EXPECT_EQ(code_of([&] { largest_ids(std::vector<float>{0, 1, bad}, 1); }), ErrorCode::kCorrupt);
      EXPECT_TRUE(s.history().empty());
      EXPECT_EQ(code_of([&] { s.sample(std::vector<float>{-kInf, -kInf, -kInf}); }), ErrorCode::kInvalidArgument);
      EXPECT_EQ(code_of([&] { s.sample(std::vector<float>{0, 1}); }), ErrorCode::kInternal);
    }
}

TEST(Sampler, BanningEverythingIsAnError) {
  SamplingParams params;
  params.no_repeat_ngram_size = 1;
  for (const double temperature : {0.0, 1.0}) {
    params.temperature = temperature;
    Sampler s = sampler(params, 2, {0, 1});
    EXPECT_EQ(code_of([&] { s.sample(std::vector<float>{0, 1}); }), ErrorCode::kInvalidArgument);
  }
}

TEST(Sampler, UnusableParametersAreRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refuse = [](auto field, auto... values) {
    for (const auto value : {values...}) {
      SamplingParams params;
      params.*field = value;
      EXPECT_EQ(code_of([&] { sampler(params, 4); }), ErrorCode::kInvalidArgument) << value;
    }
  };
  refuse(&SamplingParams::temperature, -0.1, 101.0, nan, HUGE_VAL);
  refuse(&SamplingParams::top_k, int64_t{-1});
  refuse(&SamplingParams::top_p, -0.1, 1.1, nan);
  refuse(&SamplingParams::min_p, -0.1, 1.1, nan);
  refuse(&SamplingParams::repetition_penalty, 0.0, -1.0, 101.0, nan);
  refuse(&SamplingParams::no_repeat_ngram_size, int64_t{-1}, int64_t{1025});
  EXPECT_EQ(code_of([&] { sampler({}, 4, {0, 4}); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { sampler({}, 4, {-1}); }), ErrorCode::kInvalidArgument);
}

TEST(Sampler, LogprobsAreOfTheUnchangedDistribution) {
  const std::vector<float> logits = {1, 3, 3, -kInf, 1000};
  const double sum = log_sum_exp(logits);
  EXPECT_NEAR(sum, 1000, 1e-9);
  EXPECT_NEAR(log_sum_exp(std::vector<float>{0, 0, 0, 0}), std::log(4.0), 1e-12);
  EXPECT_EQ(largest_ids(logits, 3), (std::vector<int32_t>{4, 1, 2}));
  EXPECT_EQ(largest_ids(logits, 99).size(), 5u);
  EXPECT_TRUE(largest_ids(logits, 0).empty());
}

// What OpenAI's reference says of its two penalties: mu[j] - c[j] * frequency - (c[j] > 0) * presence.
TEST(Sampler, PresenceAndFrequencyPenaltiesCountTheAnswerAlone) {
  const std::vector<float> logits = {2.0f, 1.5f, 1.0f, -0.5f};
  SamplingParams params;
  params.temperature = 1;
  params.presence_penalty = 0.25;
  params.frequency_penalty = 0.5;
  Sampler one = sampler(params, 4, {0, 0, 3});
  const std::vector<double> before = one.probabilities(logits);
  EXPECT_EQ(before, sampler(SamplingParams{.temperature = 1}, 4).probabilities(logits));
  for (const int32_t id : {1, 3, 3}) one.push(id);
  const std::vector<double> after = one.probabilities(logits);
  const std::vector<double> expected = {2.0, 1.5 - 0.75, 1.0, -0.5 - 0.25 - 2 * 0.5};
  double sum = 0;
  for (const double logit : expected) sum += std::exp(logit);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(after[i], std::exp(expected[i]) / sum, 1e-12) << i;
}

TEST(Sampler, NegativePenaltiesKeepToWhatWasSaid) {
  SamplingParams params;
  params.presence_penalty = -1;
  Sampler one = sampler(params, 3);
  EXPECT_EQ(one.sample(std::vector<float>{1.0f, 0.5f, 0.0f}), 0);
  EXPECT_EQ(one.sample(std::vector<float>{0.0f, 0.9f, 0.0f}), 0);
  EXPECT_EQ(one.sample(std::vector<float>{0.0f, 1.1f, 0.0f}), 1);
}

TEST(Sampler, ABiasIsAddedBeforeThePenalties) {
  SamplingParams params;
  params.logit_bias = {{1, 1.5}, {1, 0.75}, {2, -100}};
  EXPECT_EQ(sampler(params, 3).sample(std::vector<float>{2.0f, 0.0f, 50.0f}), 1);
  EXPECT_EQ(sampler(params, 3).sample(std::vector<float>{2.3f, 0.0f, 50.0f}), 0);
  params.repetition_penalty = 2;
  EXPECT_EQ(sampler(params, 3, {1}).sample(std::vector<float>{1.2f, 0.0f, 50.0f}), 0);  // 2.25 / 2
  EXPECT_EQ(sampler(params, 3, {1}).sample(std::vector<float>{1.1f, 0.0f, 50.0f}), 1);
  SamplingParams all;  // nothing becomes possible that is not
  all.logit_bias = {{0, 100}};
  EXPECT_EQ(sampler(all, 2).sample(std::vector<float>{-kInf, -5.0f}), 1);
}

TEST(Sampler, PenaltiesAndBiasesOutOfRangeAreNamed) {
  for (const double value : {-101.0, 101.0, static_cast<double>(NAN)}) {
    EXPECT_EQ(code_of([&] { validate_sampling({.presence_penalty = value}); }), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code_of([&] { validate_sampling({.frequency_penalty = value}); }), ErrorCode::kInvalidArgument);
  }
  for (const TokenBias one : {TokenBias{3, 1}, {-1, 1}, {0, 1001}, {0, static_cast<double>(NAN)}})
    EXPECT_EQ(code_of([&] { validate_logit_bias({.logit_bias = {one}}, 3); }), ErrorCode::kInvalidArgument);
}

TEST(Sampler, ARuleTakesTheLargestWhereNothingChangesALogit) {
  const auto takes = [](const auto& change) {
    SamplingParams params;
    change(params);
    Sampler one(params, 8, 8, std::vector<int32_t>{1, 2, 1});
    return one.rule()->takes_largest();
  };
  EXPECT_TRUE(takes([](SamplingParams&) {}));
  EXPECT_TRUE(takes([](SamplingParams& p) { p.top_p = 0.5, p.top_k = 3, p.seed = 9; })) << "greedy all the same";
  EXPECT_TRUE(takes([](SamplingParams& p) { p.no_repeat_ngram_size = 3; })) << "nothing is repeated yet";
  EXPECT_FALSE(takes([](SamplingParams& p) { p.temperature = 0.1; }));
  EXPECT_FALSE(takes([](SamplingParams& p) { p.repetition_penalty = 1.1; }));
  EXPECT_FALSE(takes([](SamplingParams& p) { p.presence_penalty = 0.1; }));
  EXPECT_FALSE(takes([](SamplingParams& p) { p.frequency_penalty = -0.1; }));
  EXPECT_FALSE(takes([](SamplingParams& p) { p.no_repeat_ngram_size = 2; }));
  EXPECT_FALSE(takes([](SamplingParams& p) { p.logit_bias = {{3, 1.0}}; }));
}

TEST(Sampler, ARuleOfALaterTokenIsKnownUnlessThoseBeforeItMatter) {
  SamplingParams params;
  params.temperature = 1;
  Sampler one = sampler(params, 8);
  const double next = one.rule(0)->uniform, later = one.rule(2)->uniform;
  EXPECT_NE(next, later);
  one.take(3);
  one.take(4);
  EXPECT_EQ(one.rule(0)->uniform, later) << "a draw a token";
  params.logit_bias = {{3, 1.0}};
  EXPECT_TRUE(sampler(params, 8).rule(1));
  params.no_repeat_ngram_size = 2;
  EXPECT_FALSE(sampler(params, 8).rule(1));
  EXPECT_TRUE(sampler(params, 8).rule(0));
}

// Two programs for the same rules: this one, and Ops::choose_ids() on the host.
TEST(Sampler, ItsRuleChoosesWhatItDraws) {
  constexpr int64_t kVocab = 300, kIds = 290;
  const std::unique_ptr<Ops> ops = make_ops("reference", {});
  Random random(3);
  int drawn = 0;
  for (int i = 0; i < 400; ++i) {
    SamplingParams params;
    const auto sometimes = [&](double value, double otherwise) { return random.below(3) == 0 ? value : otherwise; };
    params.temperature = sometimes(0, 0.2 + 2 * random.uniform());
    params.top_k = static_cast<int64_t>(sometimes(1 + static_cast<double>(random.below(40)), 0));
    params.top_p = sometimes(random.uniform(), 1);
    params.min_p = sometimes(0.2 * random.uniform(), 0);
    params.repetition_penalty = sometimes(0.8 + random.uniform(), 1);
    params.presence_penalty = sometimes(random.uniform(), 0);
    params.frequency_penalty = sometimes(random.uniform(), 0);
    params.no_repeat_ngram_size = static_cast<int64_t>(sometimes(2, 0));
    if (random.below(3) == 0) params.logit_bias = {{7, 2.5}, {11, -3}, {7, 0.5}, {295, 4}};
    params.seed = static_cast<uint64_t>(i);
    std::vector<int32_t> prompt(20);
    for (int32_t& id : prompt) id = static_cast<int32_t>(random.below(kIds));
    Sampler own(params, kVocab, kIds, prompt), by_rule = own;
    for (int token = 0; token < 12; ++token) {
      std::vector<float> logits(kVocab);
      for (float& logit : logits) logit = 3 * random.normal();
      if (random.below(4) == 0)  // ties
        for (float& logit : logits) logit = std::round(logit);
      ChosenId chosen;
      const ChoiceRule rule = *by_rule.rule();
      ops->choose_ids({&chosen, 1}, {logits.data(), 1, 1, kVocab, kVocab, kVocab}, {&rule, 1}, kIds);
      by_rule.take(chosen.id);
      const int32_t id = own.sample(logits);
      ASSERT_EQ(chosen.id, id) << "token " << token << " of " << i;
      EXPECT_EQ(chosen.logit, logits[static_cast<size_t>(id)]);
      EXPECT_NEAR(chosen.log_sum_exp, log_sum_exp(logits), 1e-9);
      drawn += params.temperature > 0 ? 1 : 0;
    }
  }
  EXPECT_GT(drawn, 2000);
}

}  // namespace
}  // namespace vl2
