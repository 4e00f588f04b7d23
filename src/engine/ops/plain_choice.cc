// A token from a row of logits in the host's memory: every step in float64 and by sorting. It is what backends are held
// to; where logits are on the host, the runtime's own sampler is faster.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/ops/ops.h"

namespace vl2 {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The largest first, the lower id first among equals.
template <typename T>
std::vector<int32_t> sorted_ids(std::span<const T> scores) {
  std::vector<int32_t> ids(scores.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  return ids;
}

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

std::vector<double> scores_of(std::span<const float> logits, const ChoiceRule& rule) {
  std::vector<double> scores(logits.begin(), logits.end());
  for (const LogitEdit& edit : rule.edits) {
    double& score = scores[static_cast<size_t>(edit.id)];
    score += edit.bias;
    score = (score < 0 ? score * edit.penalty : score / edit.penalty) - edit.less;
  }
  return scores;
}

// Weights of the ids that the rule leaves, 0 of the others.
std::vector<double> weights_of(std::span<const double> scores, const ChoiceRule& rule) {
  const std::vector<int32_t> order = sorted_ids(scores);
  const double top = scores[static_cast<size_t>(order.front())];
  const auto k = static_cast<size_t>(rule.top_k);
  const double kth = k > 0 && k < order.size() ? scores[static_cast<size_t>(order[k - 1])] : -kInfinity;
  std::vector<double> weights(scores.size());
  for (size_t i = 0; i < weights.size(); ++i)
    if (scores[i] >= kth) weights[i] = std::exp((scores[i] - top) / rule.temperature);
  const double wanted = rule.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
  double held = 0;
  for (const int32_t id : order) {
    double& weight = weights[static_cast<size_t>(id)];
    if (rule.top_p < 1 && held >= wanted && held > 0)
      weight = 0;
    else
      held += weight;
  }
  for (double& weight : weights)
    if (weight < rule.min_p) weight = 0;
  return weights;
}

int32_t drawn(std::span<const double> weights, double uniform) {
  double left = uniform * std::accumulate(weights.begin(), weights.end(), 0.0);
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    last = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return static_cast<int32_t>(last);
}

ChosenId chosen(std::span<const float> logits, const ChoiceRule& rule, int64_t num_ids) {
  ChosenId result;
  result.log_sum_exp = log_sum_exp(logits);
  if (!std::isfinite(result.log_sum_exp)) return result;
  const std::vector<double> scores = scores_of(logits.first(static_cast<size_t>(num_ids)), rule);
  const auto best = std::max_element(scores.begin(), scores.end());
  if (*best == -kInfinity) return result;
  result.id = rule.temperature == 0 ? static_cast<int32_t>(best - scores.begin())
                                    : drawn(weights_of(scores, rule), rule.uniform);
  result.logit = logits[static_cast<size_t>(result.id)];
  if (rule.most_likely == 0) return result;
  std::vector<int32_t> ids = sorted_ids(logits);
  ids.resize(static_cast<size_t>(rule.most_likely));
  for (const int32_t id : ids) result.most_likely.push_back({id, logits[static_cast<size_t>(id)]});
  return result;
}

}  // namespace

void Ops::do_choose_ids(std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules, int64_t num_ids) {
  for (int64_t t = 0; t < logits.rows; ++t) {
    const auto i = static_cast<size_t>(t);
    out[i] =
        chosen({logits.row(t), static_cast<size_t>(logits.cols)}, rules.empty() ? ChoiceRule{} : rules[i], num_ids);
  }
}

}  // namespace vl2
