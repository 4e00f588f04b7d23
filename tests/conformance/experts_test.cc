// Router and routed experts.
#include <algorithm>

#include "conformance/op_test.h"

namespace vl2::conformance {
namespace {

class ExpertOps : public OpTest {
 protected:
  static RouterParams greedy(int64_t top_k) {
    RouterParams p;
    p.top_k = top_k;
    return p;
  }
  // Routing of an Ops copied out of its workspace.
  struct Copy {
    std::vector<int32_t> expert;
    std::vector<float> weight, scores;
  };
  static Copy copy(const Routing& r) {
    return {{r.expert.begin(), r.expert.end()}, {r.weight.begin(), r.weight.end()}, {r.scores.begin(), r.scores.end()}};
  }
};

TEST_P(ExpertOps, RouteChoosesAndWeighsAsTheReference) {
  for (ScoringFunc scoring : {ScoringFunc::kSoftmax, ScoringFunc::kSigmoid})
    for (TopkMethod method : {TopkMethod::kGreedy, TopkMethod::kGroupLimitedGreedy, TopkMethod::kNoauxTc})
      for (bool normalise : {false, true})
        for (int64_t experts : {4, 12, 64, 72}) {
          RouterParams p;
          p.scoring_func = scoring;
          p.topk_method = method;
          p.top_k = experts == 4 ? 2 : 6;
          p.num_groups = method == TopkMethod::kGreedy ? 1 : 2;
          p.topk_groups = 1;
          if (method != TopkMethod::kGreedy) p.top_k = std::min<int64_t>(p.top_k, experts / 2);
          p.norm_topk_prob = normalise;
          p.routed_scaling_factor = 1.7f;
          const int64_t width = 97;
          const Stored gate(DType::kBF16, {experts, width}, random_, 0.1f), bias(DType::kF32, {experts}, random_, 0.1f);
          Rows x = Rows::random(29, width, random_);
          const auto run = [&](Ops& ops) {
            const Weight b = method == TopkMethod::kNoauxTc ? ops.pack(bias.view(), WeightUse::kVector) : Weight{};
            return copy(ops.route(x.tensor(), ops.pack(gate.view(), WeightUse::kRouter), b, p));
          };
          const Copy found = run(*ops_), expected = run(*reference_);
          EXPECT_EQ(found.expert, expected.expert);
          ASSERT_EQ(found.weight.size(), expected.weight.size());
          for (size_t i = 0; i < found.weight.size(); ++i) ASSERT_NEAR(found.weight[i], expected.weight[i], 2e-6);
          for (size_t i = 0; i < found.scores.size(); ++i) ASSERT_NEAR(found.scores[i], expected.scores[i], 2e-6);
        }
}

TEST_P(ExpertOps, RoutedExpertsMatchTheReferenceAndIgnoreNeighbours) {
  struct Case {
    int64_t tokens, width, inner, experts, top_k;
  };
  for (const Case& c : {Case{1, 33, 17, 4, 2}, Case{2, 64, 48, 8, 6}, Case{40, 100, 31, 6, 3}, Case{131, 72, 50, 3, 3},
                        Case{70, 65, 97, 64, 6}})
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      ExpertWeights tested, plain;
      double inner_norm = 0, down_norm = 0;
      for (int64_t e = 0; e < c.experts; ++e) {
        const Stored gate(dtype, {c.inner, c.width}, random_, 0.3f), up(dtype, {c.inner, c.width}, random_, 0.3f),
            down(dtype, {c.width, c.inner}, random_, 0.3f);
        const auto pack = [&](Ops& ops) {
          return GatedMlp{{ops.pack(gate.view(), WeightUse::kLinear), {}},
                          {ops.pack(up.view(), WeightUse::kLinear), {}},
                          {ops.pack(down.view(), WeightUse::kLinear), {}}};
        };
        tested.experts.push_back(pack(*ops_));
        plain.experts.push_back(pack(*reference_));
        for (int64_t r = 0; r < c.inner; ++r)
          inner_norm = std::max(inner_norm, norm(&gate.values[r * c.width], c.width));
        for (int64_t r = 0; r < c.width; ++r) down_norm = std::max(down_norm, norm(&down.values[r * c.inner], c.inner));
      }
      const Stored router(DType::kF32, {c.experts, c.width}, random_, 0.2f);
      Rows x = Rows::random(c.tokens, c.width, random_, 0.5f), y(c.tokens, c.width), expected = y, alone = y;
      const RouterParams p = greedy(c.top_k);
      const Weight gate = ops_->pack(router.view(), WeightUse::kRouter);
      const Weight expected_gate = reference_->pack(router.view(), WeightUse::kRouter);
      ops_->routed_experts(y.tensor(), x.tensor(), ops_->route(x.tensor(), gate, {}, p), tested);
      reference_->routed_experts(expected.tensor(), x.tensor(), reference_->route(x.tensor(), expected_gate, {}, p),
                                 plain);
      // The hidden layer is the product of two such sums, each in error; its own norm is at most that of gate and up.
      const double x_norm = 0.5 * std::sqrt(static_cast<double>(c.width)) * 1.6, sum = inner_norm * x_norm;
      const double hidden = sum / std::sqrt(static_cast<double>(c.width));  // spread of one hidden value's factors
      const double hidden_norm = hidden * hidden * std::sqrt(static_cast<double>(c.inner));
      const double tolerance = product_tolerance(c.inner, down_norm, hidden_norm) +
                               2 * product_tolerance(c.width, inner_norm, x_norm) * hidden * down_norm;
      expect_near(y, expected, tolerance, fmt::format("{} tokens, {} experts", c.tokens, c.experts));

      for (int64_t t = 0; t < c.tokens; ++t) {
        Tensor row = x.tensor().row_range(t, 1);
        ops_->routed_experts(alone.tensor().row_range(t, 1), row, ops_->route(row, gate, {}, p), tested);
      }
      expect_same_rows(y, alone, 4 * tolerance,
                       fmt::format("{} tokens, {} experts, one at a time", c.tokens, c.experts));

      // With shared experts: the same as one after the other, for as many tokens as are taken together and for more.
      const Stored shared_gate(dtype, {c.inner + 9, c.width}, random_, 0.3f),
          shared_up(dtype, {c.inner + 9, c.width}, random_, 0.3f),
          shared_down(dtype, {c.width, c.inner + 9}, random_, 0.3f);
      const GatedMlp shared = {{ops_->pack(shared_gate.view(), WeightUse::kLinear), {}},
                               {ops_->pack(shared_up.view(), WeightUse::kLinear), {}},
                               {ops_->pack(shared_down.view(), WeightUse::kLinear), {}}};
      for (const int64_t tokens : {int64_t{1}, int64_t{3}, c.tokens}) {
        if (tokens > c.tokens) continue;
        Tensor rows = x.tensor().row_range(0, tokens);
        Rows all(tokens, c.width), parts(tokens, c.width), second(tokens, c.width);
        const Routing routing = ops_->route(rows, gate, {}, p);
        ops_->all_experts(all.tensor(), rows, routing, tested, shared);
        ops_->routed_experts(parts.tensor(), rows, routing, tested);
        ops_->swiglu(second.tensor(), rows, shared);
        ops_->add(parts.tensor(), second.tensor());
        expect_same_rows(all, parts, 4 * tolerance,
                         fmt::format("{} of {} tokens, {} experts", tokens, c.tokens, c.experts));
        Rows residual = Rows::random(tokens, c.width, random_), plain_residual = residual;
        ops_->all_experts_add(residual.tensor(), rows, routing, tested, shared);
        ops_->add(plain_residual.tensor(), all.tensor());
        expect_same_rows(residual, plain_residual, 4 * tolerance + 1e-6,
                         fmt::format("added, {} of {} tokens, {} experts", tokens, c.tokens, c.experts));
      }
    }
}

VL2_FOR_EVERY_BACKEND(ExpertOps);

}  // namespace
}  // namespace vl2::conformance
