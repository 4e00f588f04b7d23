#include "engine/cuda/kernels/route.h"

#include "engine/cuda/kernels/kernel_test.h"
#include "engine/ops/router.h"

namespace vl2::cuda {
namespace {

TEST(RouteKernel, ChoosesAsTheHostDoes) {
  Random random(3);
  for (const ScoringFunc scoring : {ScoringFunc::kSoftmax, ScoringFunc::kSigmoid})
    for (const TopkMethod method : {TopkMethod::kGreedy, TopkMethod::kGroupLimitedGreedy, TopkMethod::kNoauxTc})
      for (const bool normalise : {false, true})
        for (const int64_t experts : {4, 12, 64, 72, 160}) {
          RouterParams p;
          p.scoring_func = scoring;
          p.topk_method = method;
          p.num_groups = method == TopkMethod::kGreedy ? 1 : experts == 64 ? 8 : 2;
          p.topk_groups = p.num_groups == 8 ? 3 : 1;
          p.top_k = std::min<int64_t>(6, experts / p.num_groups * p.topk_groups);
          p.norm_topk_prob = normalise;
          p.routed_scaling_factor = 1.7f;
          const int64_t rows = 7, cols = 97;
          const KernelMatrix gate(MatrixFormat::kF32, experts, cols, random, 0.2f);
          KernelRows x(rows, cols, experts == 72 ? 3 : 1);  // 100 and 98 floats from row to row
          x.fill(random);
          for (int64_t c = 0; c < cols; ++c) x.row(2)[c] = 0;  // all scores equal: ties
          Aligned<float> bias(experts), logits(rows * experts);
          for (int64_t e = 0; e < experts; ++e) bias[e] = 0.1f * random.normal() - (experts == 12 ? 1.0f : 0.0f);
          for (const bool separate : {false, true}) {
            Aligned<int32_t> expert(rows * p.top_k), counters(rows);
            Aligned<float> weight(rows * p.top_k), scores(rows * experts), choice(rows * experts);
            const bool biased = method == TopkMethod::kNoauxTc;
            Route route;
            route.expert = expert.data();
            route.weight = weight.data();
            route.scores = scores.data();
            route.choice = biased ? choice.data() : scores.data();
            route.rows = rows;
            route.experts = experts;
            route.top_k = p.top_k;
            route.num_groups = p.num_groups;
            route.topk_groups = p.topk_groups;
            route.bias = biased ? bias.data() : nullptr;
            route.sigmoid = scoring == ScoringFunc::kSigmoid;
            route.limit_groups = method != TopkMethod::kGreedy;
            route.two_best = biased;
            route.normalise = normalise;
            route.scaling = p.routed_scaling_factor;
            if (separate) {
              route.logits = logits.data();
              route.logits_stride = experts;
              choose_experts(nullptr, route);
            } else {
              cuda::route(nullptr, {route, x.values.data(), x.stride, gate.view, logits.data(), counters.data()});
            }
            for (int64_t r = 0; r < rows; ++r) {
              std::vector<double> sums;
              for (int64_t e = 0; e < experts; ++e) {
                const Dot dot(x.row(r), gate.row(e), cols);
                ASSERT_NEAR(logits[r * experts + e], dot.sum, dot.tolerance(cols, true));
                sums.push_back(static_cast<double>(logits[r * experts + e]));
              }
              std::vector<int32_t> e(static_cast<size_t>(p.top_k));
              std::vector<float> w(e.size()), s(static_cast<size_t>(experts)), c(s.size());
              route_row(sums, route.bias, p, e.data(), w.data(), s.data(), c.data());
              for (int64_t i = 0; i < p.top_k; ++i) {
                ASSERT_EQ(expert[r * p.top_k + i], e[static_cast<size_t>(i)]) << experts << " experts, row " << r;
                ASSERT_FLOAT_EQ(weight[r * p.top_k + i], w[static_cast<size_t>(i)]);
              }
              for (int64_t i = 0; i < experts; ++i) {
                ASSERT_FLOAT_EQ(scores[r * experts + i], s[static_cast<size_t>(i)]);
                ASSERT_FLOAT_EQ(route.choice[r * experts + i], c[static_cast<size_t>(i)]);
              }
              ASSERT_EQ(counters[r], 0);
            }
          }
        }
}

TEST(RouteKernel, LogitsThatAreNoNumbersStillNameExperts) {
  Aligned<float> logits(16), weight(6), scores(16);
  Aligned<int32_t> expert(6);
  for (int64_t i = 0; i < 16; ++i) logits[i] = std::nanf("");
  Route route;
  route.expert = expert.data();
  route.weight = weight.data();
  route.scores = route.choice = scores.data();
  route.logits = logits.data();
  route.rows = 1;
  route.experts = 16;
  route.top_k = 6;
  choose_experts(nullptr, route);
  for (int32_t i = 0; i < 6; ++i) EXPECT_EQ(expert[i], i);
}

}  // namespace
}  // namespace vl2::cuda
