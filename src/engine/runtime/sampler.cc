#include "engine/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "engine/constrain/lazy_dfa.h"
#include "engine/runtime/logit_rows.h"

namespace vl2 {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_range(const char* name, double value, bool good, const char* expected) {
  if (!good) fail(ErrorCode::kInvalidArgument, "{} is {}, expected {}", name, value, expected);
}

// The scores and weights of a row; sequences of a thread take turns.
struct Scratch {
  std::vector<double> scores, weights;
};
thread_local Scratch scratch;

[[noreturn]] void reject_logit(std::span<const float> logits) {
  const auto bad = std::find_if_not(logits.begin(), logits.end(), [](const float& logit) {
    return all_usable({&logit, 1});
  });
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

bool Sampler::looks_back() const {
  return !said_.empty() || params_.repetition_penalty != 1.0 || params_.no_repeat_ngram_size > 0;
}

std::optional<ChoiceRule> Sampler::rule(int64_t ahead) const {
  if (ahead > 0 && looks_back()) return std::nullopt;
  ChoiceRule rule{params_.temperature, params_.top_k, params_.top_p, params_.min_p};
  Random random = random_;
  if (params_.temperature > 0)
    for (int64_t i = 0; i <= ahead; ++i) rule.uniform = random.uniform();
  rule.edits = edits();
  return rule;
}

void Sampler::take(int32_t id) {
  if (params_.temperature > 0) random_.uniform();
  push(id);
}

// What score() and exclude() do, as a list.
std::vector<LogitEdit> Sampler::edits() const {
  const std::vector<int32_t> banned = banned_ids();
  std::vector<int32_t> ids = banned;
  if (!said_.empty() || params_.repetition_penalty != 1.0) ids = seen_ids_;  // the banned ones are among them
  for (const TokenBias& one : params_.logit_bias) ids.push_back(one.id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  std::vector<LogitEdit> edits;
  for (const int32_t id : ids) {
    if (id >= num_ids_) break;
    const auto i = static_cast<size_t>(id);
    LogitEdit& edit = edits.emplace_back(LogitEdit{id});
    if (!bias_.empty()) edit.bias = static_cast<float>(bias_[i]);
    if (seen_[i] != 0) edit.penalty = static_cast<float>(params_.repetition_penalty);
    if (!said_.empty() && said_[i] > 0)
      edit.less = static_cast<float>(params_.presence_penalty + params_.frequency_penalty * said_[i]);
    if (std::binary_search(banned.begin(), banned.end(), id)) edit.less = std::numeric_limits<float>::infinity();
  }
  return edits;
}

void Sampler::push(int32_t id) {
  if (id < 0 || id >= vocab_size_)
    fail(ErrorCode::kInvalidArgument, "token id {} is outside of the vocabulary, expected 0 to {}", id,
         vocab_size_ - 1);
  history_.push_back(id);
  if (seen_[static_cast<size_t>(id)] == 0) seen_ids_.push_back(id);
  seen_[static_cast<size_t>(id)] = 1;
  if (!said_.empty()) ++said_[static_cast<size_t>(id)];
}

void Sampler::check_logits(std::span<const float> logits) const {
  VL2_CHECK(static_cast<int64_t>(logits.size()) == vocab_size_, "{} logits for a vocabulary of {}", logits.size(),
            vocab_size_);
  if (!all_usable(logits)) reject_logit(logits);
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

// Logits of the ids there are, after bias and penalties.
void Sampler::score(std::span<const float> logits, std::vector<double>& scores) const {
  scores.assign(logits.begin(), logits.begin() + num_ids_);
  if (!bias_.empty())
    for (size_t i = 0; i < scores.size(); ++i) scores[i] += bias_[i];
  if (params_.repetition_penalty == 1.0 && said_.empty()) return;
  for (const int32_t id : seen_ids_) {
    if (id >= num_ids_) continue;
    const auto i = static_cast<size_t>(id);
    double& score = scores[i];
    score = score < 0 ? score * params_.repetition_penalty : score / params_.repetition_penalty;
    if (!said_.empty() && said_[i] > 0) score -= params_.presence_penalty + params_.frequency_penalty * said_[i];
  }
}

// Takes out what the constraint rules out, then what would repeat itself.
void Sampler::exclude(const TokenMask* mask, std::vector<double>& scores) const {
  const auto take_out = [&](int32_t id) { scores[static_cast<size_t>(id)] = -kInfinity; };
  if (mask != nullptr)
    for (int32_t id = 0; id < num_ids_; ++id)
      if (!mask->has(id)) take_out(id);
  std::vector<int32_t> banned = banned_ids();
  if (mask != nullptr) {
    const auto stays = [&](int32_t id) {
      return scores[static_cast<size_t>(id)] > -kInfinity && !std::binary_search(banned.begin(), banned.end(), id);
    };
    int32_t id = 0;
    while (id < num_ids_ && !stays(id)) ++id;
    if (id == num_ids_) banned.clear();  // better a repetition than what the constraint rules out
  }
  for (const int32_t id : banned)
    if (id < num_ids_) take_out(id);
  if (largest(scores) == -kInfinity)
    fail(ErrorCode::kInvalidArgument,
         "no token is left to choose: {} of {} are banned by no_repeat_ngram_size {}, the others have logits of -inf",
         banned.size(), num_ids_, params_.no_repeat_ngram_size);
}

void Sampler::keep_top_k(std::vector<double>& scores) const {
  if (params_.top_k == 0 || params_.top_k >= num_ids_) return;
  std::vector<double> sorted = scores;
  const auto kth = sorted.begin() + (params_.top_k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
  for (double& score : scores)
    if (score < *kth) score = -kInfinity;
}

void Sampler::keep_top_p(const std::vector<double>& scores, std::vector<double>& weights) const {
  if (params_.top_p >= 1) return;
  const double total = sum(weights);
  // All ids below this together have less than what may be left out; half of it, so that rounding does not matter.
  const double least = (1 - params_.top_p) * total / static_cast<double>(weights.size()) / 2;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < num_ids_; ++id)
    if (weights[static_cast<size_t>(id)] > least) ids.push_back(id);
  const auto more_likely = [&](int32_t a, int32_t b) {
    const double x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  // Halves are split again where the sum is reached, so that few have to be sorted.
  constexpr std::ptrdiff_t kFew = 32;
  auto end = ids.begin(), rest = ids.end();  // kept for sure, and what may be
  double held = 0;
  while (rest - end > kFew) {
    const auto middle = end + (rest - end) / 2;
    std::nth_element(end, middle, rest, more_likely);
    double half = 0;
    for (auto id = end; id != middle; ++id) half += weights[static_cast<size_t>(*id)];
    if (held + half >= params_.top_p * total) {
      rest = middle;
    } else {
      held += half;
      end = middle;
    }
  }
  std::sort(end, rest, more_likely);
  do {
    held += weights[static_cast<size_t>(*end++)];
  } while (end != rest && held < params_.top_p * total);
  std::vector<double> kept(weights.size());
  for (auto id = ids.begin(); id != end; ++id) kept[static_cast<size_t>(*id)] = weights[static_cast<size_t>(*id)];
  weights.swap(kept);
}

int32_t Sampler::weigh(std::span<const float> logits, const TokenMask* mask) const {
  auto& [scores, weights] = scratch;
  check_logits(logits);
  score(logits, scores);
  exclude(mask, scores);
  // Scores are relative to the largest: no exponential overflows, however small the temperature.
  const double top = largest(scores);
  const auto best = static_cast<int32_t>(std::find(scores.begin(), scores.end(), top) - scores.begin());
  if (params_.temperature == 0) return best;
  for (double& score : scores) score = (score - top) / params_.temperature;
  keep_top_k(scores);
  weights = scores;
  exp_row(weights);
  keep_top_p(scores, weights);
  if (params_.min_p > 0) {
    const double least = std::log(params_.min_p);
    for (size_t i = 0; i < weights.size(); ++i)
      if (scores[i] < least) weights[i] = 0;
  }
  return best;
}

int32_t Sampler::sample(std::span<const float> logits, const TokenMask* mask) {
  int32_t id = weigh(logits, mask);
  if (params_.temperature > 0) {
    const std::vector<double>& weights = scratch.weights;
    double left = random_.uniform() * sum(weights);
    for (size_t i = 0; i < weights.size(); ++i) {
      if (weights[i] == 0) continue;
      id = static_cast<int32_t>(i);  // the last of them stays if rounding leaves anything
      left -= weights[i];
      if (left < 0) break;
    }
  }
  push(id);
  return id;
}

std::vector<double> Sampler::probabilities(std::span<const float> logits, const TokenMask* mask) const {
  const int32_t best = weigh(logits, mask);
  std::vector<double> probabilities(static_cast<size_t>(vocab_size_), 0.0);
  if (params_.temperature == 0) {
    probabilities[static_cast<size_t>(best)] = 1;
    return probabilities;
  }
  const double total = sum(scratch.weights);
  for (size_t i = 0; i < scratch.weights.size(); ++i) probabilities[i] = scratch.weights[i] / total;
  return probabilities;
}

double log_sum_exp(std::span<const float> logits) {
  VL2_CHECK(!logits.empty());
  if (!all_usable(logits)) reject_logit(logits);
  const double top = largest(logits);
  return top == -kInfinity ? top : top + std::log(sum_exp(logits, top));
}

std::vector<int32_t> largest_ids(std::span<const float> logits, int64_t n) {
  if (!all_usable(logits)) reject_logit(logits);
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
