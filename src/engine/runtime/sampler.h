// Chooses the next token from a row of logits.
//
// Order, as transformers 4.38 has it: logit bias, repetition penalty, n-gram ban, temperature, top-k, top-p, min-p,
// then one draw; presence and frequency penalty, which it has not, behind the repetition penalty. A constraint comes
// before all of them: what its mask leaves out is not there. Temperature 0 takes the largest (the first of equals)
// after penalties and ban. One sampler per sequence, one thread at a time; what it draws depends on its seed, its
// history and the logits alone, never on other sequences.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/random.h"
#include "engine/ops/choice.h"

namespace vl2 {

struct TokenMask;

struct TokenBias {
  int32_t id = 0;
  double bias = 0;
};

struct SamplingParams {
  double temperature = 0.0;         // 0: greedy
  int64_t top_k = 0;                // keep the k most likely and what equals the last of them; 0: off
  double top_p = 1.0;               // keep the smallest set of most likely tokens that holds this probability; 1: off
  double min_p = 0.0;               // keep what is at least this likely relative to the most likely; 0: off
  double repetition_penalty = 1.0;  // of every id in prompt or answer, placeholders too, once however often; 1: off
  double presence_penalty = 0.0;    // taken from the logit of every id of the answer, once however often; 0: off
  double frequency_penalty = 0.0;   // the same, as many times as the id is there; 0: off
  std::vector<TokenBias> logit_bias = {};  // added to logits; of an id that is there twice, both
  int64_t no_repeat_ngram_size = 0;        // no sequence of this many ids twice in prompt and answer; 0: off
  uint64_t seed = 0;
};

// kInvalidArgument, naming the parameter and its range; ids of biases with the vocabulary's size.
void validate_sampling(const SamplingParams& params);
void validate_logit_bias(const SamplingParams& params, int64_t vocab_size);

class Sampler {
 public:
  // Rows have vocab_size logits; only the first num_ids (the tokenizer's ids: vocabularies are padded) can be chosen.
  // kInvalidArgument: unusable params, or prompt ids outside of the vocabulary.
  Sampler(const SamplingParams& params, int64_t vocab_size, int64_t num_ids, std::span<const int32_t> prompt);

  // Chooses an id and takes it into the history. A logit of -inf is a token that cannot be chosen; kCorrupt: NaN or
  // +inf logits; kInvalidArgument: nothing is left to choose.
  // With a mask only its tokens can be chosen; where the n-gram ban leaves none of them, the ban gives way.
  int32_t sample(std::span<const float> logits, const TokenMask* mask = nullptr);

  // By what rule sample() without a mask would choose, if `ahead` other tokens came first; none where it matters which.
  std::optional<ChoiceRule> rule(int64_t ahead = 0) const;
  // Takes an id that was chosen by rule(), as if sample() had chosen it.
  void take(int32_t id);

  // Takes an id that was not drawn into the history.
  void push(int32_t id);

  // What sample() would draw from, [vocab_size], sum 1; greedy: all of it on one id.
  std::vector<double> probabilities(std::span<const float> logits, const TokenMask* mask = nullptr) const;

  const std::vector<int32_t>& history() const { return history_; }

 private:
  void check_logits(std::span<const float> logits) const;
  bool looks_back() const;                  // at the history
  std::vector<int32_t> banned_ids() const;  // sorted
  std::vector<LogitEdit> edits() const;
  void score(std::span<const float> logits, std::vector<double>& scores) const;
  void exclude(const TokenMask* mask, std::vector<double>& scores) const;
  void keep_top_k(std::vector<double>& scores) const;
  void keep_top_p(const std::vector<double>& scores, std::vector<double>& weights) const;
  // The most likely id. Where a draw chooses, this thread's scratch has the weight of each id, 0 of those left out.
  int32_t weigh(std::span<const float> logits, const TokenMask* mask) const;

  SamplingParams params_;
  int64_t vocab_size_;
  int64_t num_ids_;
  Random random_;
  std::vector<int32_t> history_;
  std::vector<uint8_t> seen_;      // [vocab_size]
  std::vector<int32_t> seen_ids_;  // each once
  std::vector<double> bias_;       // [vocab_size]; empty: none
  std::vector<int32_t> said_;      // [vocab_size], how often each id is in the answer; empty: nobody asks
};

// Of the unchanged distribution, before temperature, penalty and bans: ln of the sum of exp(logit), so that
// ln p(id) = logits[id] - log_sum_exp(logits). kCorrupt for NaN or +inf logits.
double log_sum_exp(std::span<const float> logits);
// The ids of the n largest logits, largest first, the lower id first among equals.
std::vector<int32_t> largest_ids(std::span<const float> logits, int64_t n);

}  // namespace vl2
