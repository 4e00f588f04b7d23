#include "engine/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "engine/constrain/lazy_dfa.h"

namespace vl2 {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_range(const char* name, double value, bool good, const char* expected) {
  if (!good) fail(ErrorCode::kInvalidArgument, "{} is {}, expected {}", name, value, expected);
}

// NaN and +inf fail this; -inf is a token that cannot be chosen.
bool is_usable(float logit) { return logit <= std::numeric_limits<float>::max(); }

[[noreturn]] void reject_logit(std::span<const float> logits) {
  const auto bad = std::find_if_not(logits.begin(), logits.end(), is_usable);
  fail(ErrorCode::kCorrupt,
       "the model's logit of token {} is {}, expected a number; its weights are damaged or too large for their type",
       bad - logits.begin(), *bad);
}

}  // namespace

void validate_sampling(const SamplingParams& p) {
  check_range("temperature", p.temperature, p.temperature >= 0 && p.temperature <= 100, "0 (greedy) to 100");
  check_range("top_k", static_cast<double>(p.top_k), p.top_k >= 0, "0 (off) or more");
  check_range("top_p", p.top_p, p.top_p >= 0 && p.top_p <= 1, "0 to 1 (off)");
  check_range("min_p", p.min_p, p.min_p >= 0 && p.min_p <= 1, "0 (off) to 1");
  check_range("repetition_penalty", p.repetition_penalty, p.repetition_penalty > 0 && p.repetition_penalty <= 100,
              "more than 0 and at most 100; 1 is off");
  for (const auto& [name, value] :
       {std::pair{"presence_penalty", p.presence_penalty}, std::pair{"frequency_penalty", p.frequency_penalty}})
    check_range(name, value, value >= -100 && value <= 100, "-100 to 100; 0 is off");
  check_range("no_repeat_ngram_size", static_cast<double>(p.no_repeat_ngram_size),
              p.no_repeat_ngram_size >= 0 && p.no_repeat_ngram_size <= 1024, "0 (off) to 1024");
}

void validate_logit_bias(const SamplingParams& params, int64_t vocab_size) {
  for (const TokenBias& one : params.logit_bias) {
    if (one.id < 0 || one.id >= vocab_size)
      fail(ErrorCode::kInvalidArgument, "logit_bias names token {}, outside of the vocabulary, expected 0 to {}",
           one.id, vocab_size - 1);
    check_range("logit_bias", one.bias, one.bias >= -1000 && one.bias <= 1000, "-1000 to 1000");
  }
}

Sampler::Sampler(const SamplingParams& params, int64_t vocab_size, int64_t num_ids, std::span<const int32_t> prompt)
    : params_(params), vocab_size_(vocab_size), num_ids_(num_ids), random_(params.seed) {
  validate_sampling(params);
  VL2_CHECK(num_ids >= 1 && num_ids <= vocab_size && vocab_size <= std::numeric_limits<int32_t>::max(),
            "{} ids of a vocabulary of {}", num_ids, vocab_size);
  seen_.resize(static_cast<size_t>(vocab_size));
  history_.reserve(prompt.size());
  for (const int32_t id : prompt) push(id);
  validate_logit_bias(params, vocab_size);
  if (!params.logit_bias.empty()) bias_.resize(static_cast<size_t>(vocab_size));
  for (const TokenBias& one : params.logit_bias) bias_[static_cast<size_t>(one.id)] += one.bias;
  if (params.presence_penalty != 0 || params.frequency_penalty != 0) said_.resize(static_cast<size_t>(vocab_size));
}

void Sampler::push(int32_t id) {
  if (id < 0 || id >= vocab_size_)
    fail(ErrorCode::kInvalidArgument, "token id {} is outside of the vocabulary, expected 0 to {}", id,
         vocab_size_ - 1);
  history_.push_back(id);
  seen_[static_cast<size_t>(id)] = 1;
  if (!said_.empty()) ++said_[static_cast<size_t>(id)];
}

void Sampler::check_logits(std::span<const float> logits) const {
  VL2_CHECK(static_cast<int64_t>(logits.size()) == vocab_size_, "{} logits for a vocabulary of {}", logits.size(),
            vocab_size_);
  if (!std::all_of(logits.begin(), logits.end(), is_usable)) reject_logit(logits);
}

double Sampler::penalised(int32_t id, double logit) const {
  const auto i = static_cast<size_t>(id);
  if (!bias_.empty()) logit += bias_[i];
  if (params_.repetition_penalty != 1.0 && seen_[i] != 0)
    logit = logit < 0 ? logit * params_.repetition_penalty : logit / params_.repetition_penalty;
  if (!said_.empty() && said_[i] > 0) logit -= params_.presence_penalty + params_.frequency_penalty * said_[i];
  return logit;
}

// The ids that would repeat an n-gram: what followed each earlier place of the last n - 1 ids.
std::vector<int32_t> Sampler::banned_ids() const {
  std::vector<int32_t> banned;
  const size_t n = static_cast<size_t>(params_.no_repeat_ngram_size);
  if (n == 0 || history_.size() < n) return banned;
  const auto last = history_.end() - static_cast<std::ptrdiff_t>(n - 1);
  for (auto begin = history_.begin(); begin + static_cast<std::ptrdiff_t>(n) <= history_.end(); ++begin)
    if (std::equal(last, history_.end(), begin)) banned.push_back(*(begin + static_cast<std::ptrdiff_t>(n - 1)));
  std::sort(banned.begin(), banned.end());
  banned.erase(std::unique(banned.begin(), banned.end()), banned.end());
  return banned;
}

int32_t Sampler::argmax(std::span<const float> logits, const std::vector<int32_t>& banned) const {
  int32_t best = -1;
  double best_score = -kInfinity;
  auto next_banned = banned.begin();
  for (int32_t id = 0; id < num_ids_; ++id) {
    if (next_banned != banned.end() && *next_banned == id) {
      ++next_banned;
      continue;
    }
    const double score = penalised(id, logits[static_cast<size_t>(id)]);
    if (score > best_score) {
      best = id;
      best_score = score;
    }
  }
  if (best < 0)
    fail(ErrorCode::kInvalidArgument,
         "no token is left to choose: {} of {} are banned by no_repeat_ngram_size {}, the others have logits of -inf",
         banned.size(), num_ids_, params_.no_repeat_ngram_size);
  return best;
}

std::vector<Sampler::Candidate> Sampler::candidates(std::span<const float> logits, const TokenMask* mask) const {
  check_logits(logits);
  std::vector<int32_t> banned = banned_ids();
  if (mask == nullptr) return candidates(logits, std::move(banned));
  std::vector<float> masked(logits.begin(), logits.end());
  int64_t left = 0;
  for (int32_t id = 0; id < num_ids_; ++id) {
    float& logit = masked[static_cast<size_t>(id)];
    if (!mask->has(id)) logit = -std::numeric_limits<float>::infinity();
    if (logit > -kInfinity && !std::binary_search(banned.begin(), banned.end(), id)) ++left;
  }
  if (left == 0) banned.clear();  // better a repetition than what the constraint rules out
  return candidates(masked, std::move(banned));
}

std::vector<Sampler::Candidate> Sampler::candidates(std::span<const float> logits, std::vector<int32_t> banned) const {
  const int32_t best = argmax(logits, banned);
  if (params_.temperature == 0) return {{best, 0.0, 1.0}};

  // Scores are relative to the largest: no exponential overflows, however small the temperature.
  const double largest = penalised(best, logits[static_cast<size_t>(best)]);
  std::vector<Candidate> kept;
  kept.reserve(static_cast<size_t>(num_ids_));
  auto next_banned = banned.begin();
  for (int32_t id = 0; id < num_ids_; ++id) {
    if (next_banned != banned.end() && *next_banned == id) {
      ++next_banned;
      continue;
    }
    const double score = (penalised(id, logits[static_cast<size_t>(id)]) - largest) / params_.temperature;
    if (score > -kInfinity) kept.push_back({id, score, 0.0});
  }

  if (params_.top_k > 0 && static_cast<uint64_t>(params_.top_k) < kept.size()) {
    const auto kth = kept.begin() + (params_.top_k - 1);
    std::nth_element(kept.begin(), kth, kept.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    const double least = kth->score;
    std::erase_if(kept, [least](const Candidate& c) { return c.score < least; });
  }

  double total = 0;
  for (Candidate& c : kept) total += c.weight = std::exp(c.score);
  if (params_.top_p < 1) {
    // A heap instead of a sort: the set is small where top-p is of use.
    const auto less_likely = [](const Candidate& a, const Candidate& b) {
      return a.score != b.score ? a.score < b.score : a.id > b.id;
    };
    std::make_heap(kept.begin(), kept.end(), less_likely);
    auto rest = kept.end();
    double held = 0;
    do {
      std::pop_heap(kept.begin(), rest, less_likely);
      held += (--rest)->weight;
    } while (rest != kept.begin() && held < params_.top_p * total);
    kept.erase(kept.begin(), rest);
  }
  if (params_.min_p > 0) {
    const double least = std::log(params_.min_p);
    std::erase_if(kept, [least](const Candidate& c) { return c.score < least; });
  }
  // By id, so that a draw does not depend on how the standard library orders a heap.
  if (params_.top_k > 0 || params_.top_p < 1)
    std::sort(kept.begin(), kept.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  return kept;
}

int32_t Sampler::sample(std::span<const float> logits, const TokenMask* mask) {
  const std::vector<Candidate> kept = candidates(logits, mask);
  int32_t id = kept.back().id;
  if (kept.size() > 1) {
    double total = 0;
    for (const Candidate& c : kept) total += c.weight;
    double left = random_.uniform() * total;
    for (const Candidate& c : kept) {
      if (c.weight == 0) continue;
      id = c.id;  // the last of them stays if rounding leaves anything
      left -= c.weight;
      if (left < 0) break;
    }
  }
  push(id);
  return id;
}

std::vector<double> Sampler::probabilities(std::span<const float> logits, const TokenMask* mask) const {
  const std::vector<Candidate> kept = candidates(logits, mask);
  double total = 0;
  for (const Candidate& c : kept) total += c.weight;
  std::vector<double> probabilities(static_cast<size_t>(vocab_size_), 0.0);
  for (const Candidate& c : kept) probabilities[static_cast<size_t>(c.id)] = c.weight / total;
  return probabilities;
}

double log_sum_exp(std::span<const float> logits) {
  VL2_CHECK(!logits.empty());
  if (!std::all_of(logits.begin(), logits.end(), is_usable)) reject_logit(logits);
  const double largest = *std::max_element(logits.begin(), logits.end());
  if (largest == -kInfinity) return largest;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

std::vector<int32_t> largest_ids(std::span<const float> logits, int64_t n) {
  if (!std::all_of(logits.begin(), logits.end(), is_usable)) reject_logit(logits);
  std::vector<int32_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
  const auto end = ids.begin() + std::clamp<int64_t>(n, 0, static_cast<int64_t>(ids.size()));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)];
    const float y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  ids.erase(end, ids.end());
  return ids;
}

}  // namespace vl2
