// Routing, in double (spec: model 6.7; golden quirk 16).
#include "engine/ops/router.h"

#include <algorithm>
#include <cmath>

namespace vl2 {
namespace {

// The k largest, first index first on ties, in ascending order of their indices. k is small beside the number of
// values.
std::vector<int32_t> largest(const std::vector<double>& values, int64_t k) {
  std::vector<bool> taken(values.size(), false);
  for (int64_t i = 0; i < k; ++i) {
    size_t best = values.size();
    for (size_t e = 0; e < values.size(); ++e)
      if (!taken[e] && (best == values.size() || values[e] > values[best])) best = e;
    taken[best] = true;
  }
  std::vector<int32_t> chosen;
  chosen.reserve(static_cast<size_t>(k));
  for (size_t e = 0; e < values.size(); ++e)
    if (taken[e]) chosen.push_back(static_cast<int32_t>(e));
  return chosen;
}

std::vector<double> score(const std::vector<double>& logits, ScoringFunc scoring) {
  std::vector<double> scores(logits.size());
  if (scoring == ScoringFunc::kSigmoid) {
    std::transform(logits.begin(), logits.end(), scores.begin(), [](double x) { return 1.0 / (1.0 + std::exp(-x)); });
    return scores;
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (size_t e = 0; e < logits.size(); ++e) sum += scores[e] = std::exp(logits[e] - max);
  for (double& s : scores) s /= sum;
  return scores;
}

// Choices outside the kept groups become 0, not minus infinity: with negative biased scores they can still win.
void keep_groups(std::vector<double>& choice, const RouterParams& p) {
  const size_t size = choice.size() / static_cast<size_t>(p.num_groups);
  std::vector<double> group_score(static_cast<size_t>(p.num_groups));
  for (size_t g = 0; g < group_score.size(); ++g) {
    std::vector<double> members(choice.begin() + static_cast<int64_t>(g * size),
                                choice.begin() + static_cast<int64_t>((g + 1) * size));
    std::sort(members.rbegin(), members.rend());
    group_score[g] = members[0];
    if (p.topk_method == TopkMethod::kNoauxTc && members.size() > 1) group_score[g] += members[1];
  }
  std::vector<bool> kept(group_score.size(), false);
  for (int32_t g : largest(group_score, p.topk_groups)) kept[static_cast<size_t>(g)] = true;
  for (size_t e = 0; e < choice.size(); ++e)
    if (!kept[e / size]) choice[e] = 0.0;
}

}  // namespace

void route_row(const std::vector<double>& logits, const float* bias, const RouterParams& p, int32_t* expert,
               float* weight, float* scores_out, float* choice_out) {
  const std::vector<double> scores = score(logits, p.scoring_func);
  std::vector<double> choice = scores;
  if (p.topk_method == TopkMethod::kNoauxTc && bias != nullptr)
    for (size_t e = 0; e < choice.size(); ++e) choice[e] += static_cast<double>(bias[e]);
  std::transform(scores.begin(), scores.end(), scores_out, [](double s) { return static_cast<float>(s); });
  std::transform(choice.begin(), choice.end(), choice_out, [](double s) { return static_cast<float>(s); });
  if (p.topk_method != TopkMethod::kGreedy) keep_groups(choice, p);

  const std::vector<int32_t> chosen = largest(choice, p.top_k);
  double sum = 0;
  for (int32_t e : chosen) sum += scores[static_cast<size_t>(e)];
  const double divisor = p.top_k > 1 && p.norm_topk_prob ? sum + 1e-20 : 1.0;
  for (size_t i = 0; i < chosen.size(); ++i) {
    expert[i] = chosen[i];
    weight[i] = static_cast<float>(scores[static_cast<size_t>(chosen[i])] / divisor *
                                   static_cast<double>(p.routed_scaling_factor));
  }
}

}  // namespace vl2
