// Tokens from rows of logits, by every kind of rule.
#include <algorithm>
#include <cmath>
#include <limits>

#include "conformance/op_test.h"

namespace vl2::conformance {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kRows = 5;

class ChoiceOps : public OpTest {
 protected:
  // Random, ties at the top, a logit that is none, and many equal ones.
  Rows logits(int64_t width) {
    Rows x = Rows::random(kRows, width, random_, 4.0f);
    const int64_t ids = ids_of(width);
    x.row(1)[ids - 1] = x.row(1)[ids / 2] = 50.0f;
    x.row(2)[width - 1] = 60.0f;  // of no id, unless there is one alone
    x.row(3)[width / 3] = -kInfinity;
    for (int64_t c = 0; c < width; ++c) x.row(4)[c] = static_cast<float>(c % 7) * 0.25f - 0.5f;
    return x;
  }
  static int64_t ids_of(int64_t width) { return (width + 1) / 2; }

  std::vector<ChosenId> expect_same(Rows& x, const std::vector<ChoiceRule>& rules, const std::string& what) {
    std::vector<ChosenId> found(static_cast<size_t>(x.rows())), expected = found;
    const Rows before = x;
    ops_->choose_ids(found, x.tensor(), rules, ids_of(x.cols()));
    expect_same_bits(x, before, what);
    reference_->choose_ids(expected, x.tensor(), rules, ids_of(x.cols()));
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].id, expected[i].id) << "row " << i << " of " << what;
      if (expected[i].id < 0) continue;
      EXPECT_EQ(found[i].logit, expected[i].logit) << "row " << i << " of " << what;
      EXPECT_NEAR(found[i].log_sum_exp, expected[i].log_sum_exp,
                  2e-6 * std::max(1.0, std::abs(expected[i].log_sum_exp)))
          << "row " << i << " of " << what;
      EXPECT_EQ(found[i].most_likely.size(), expected[i].most_likely.size());
      for (size_t k = 0; k < std::min(found[i].most_likely.size(), expected[i].most_likely.size()); ++k) {
        EXPECT_EQ(found[i].most_likely[k].id, expected[i].most_likely[k].id) << k << " of row " << i << " of " << what;
        EXPECT_EQ(found[i].most_likely[k].logit, expected[i].most_likely[k].logit);
      }
    }
    return found;
  }

  // The same for all rows, each with its own draw.
  void draw(const std::string& what, const ChoiceRule& rule, std::initializer_list<int64_t> widths = {33, 1000, 2500}) {
    for (const int64_t width : widths)
      for (const double uniform : {1e-5, 0.31, 0.8, 1 - 0x1p-53}) {
        Rows x = logits(width);
        std::vector<ChoiceRule> rules(kRows, rule);
        for (ChoiceRule& one : rules) one.uniform = std::min(1 - 0x1p-53, uniform * (0.9 + 0.1 * random_.uniform()));
        expect_same(x, rules, fmt::format("{}, width {}, uniform {}", what, width, uniform));
      }
  }
};

TEST_P(ChoiceOps, TheLargestIsTheFirstOfEqualsAmongTheIds) {
  for (const int64_t width : {1, 33, 1000, 2500}) {
    Rows x = logits(width);
    x.row(4)[width - 1] = 1e4f;
    const std::vector<ChosenId> found = expect_same(x, {}, fmt::format("width {}", width));
    EXPECT_EQ(found[1].id, ids_of(width) / 2);
    if (width == 1) {
      EXPECT_EQ(found[3].id, -1) << "nothing but -inf";
    }
  }
}

TEST_P(ChoiceOps, LogitsThatAreNoNumbersChooseNone) {
  for (const float bad : {static_cast<float>(NAN), kInfinity}) {
    for (const int64_t at : {0, 17, 2499}) {
      Rows x = Rows::random(3, 2500, random_);
      x.row(1)[at] = bad;
      std::fill_n(x.row(2), 2500, -kInfinity);
      ChoiceRule rule;
      rule.temperature = 1, rule.top_k = 9, rule.top_p = 0.5, rule.most_likely = 3;
      for (const std::vector<ChoiceRule>& rules : {std::vector<ChoiceRule>{}, std::vector<ChoiceRule>(3, rule)}) {
        std::vector<ChosenId> found(3);
        ops_->choose_ids(found, x.tensor(), rules, 2500);
        EXPECT_TRUE(std::isfinite(found[0].log_sum_exp));
        EXPECT_GE(found[0].id, 0);
        for (const size_t i : {1, 2}) {
          EXPECT_FALSE(std::isfinite(found[i].log_sum_exp)) << bad << " at " << at;
          EXPECT_EQ(found[i].id, -1);
          EXPECT_TRUE(found[i].most_likely.empty());
        }
      }
    }
  }
}

TEST_P(ChoiceOps, DrawsFromAll) {
  for (const double temperature : {0.3, 1.0, 5.0, 1e-300}) {
    ChoiceRule rule;
    rule.temperature = temperature;
    draw(fmt::format("temperature {}", temperature), rule);
  }
}

// Of weights that are all within the units of the sum.
TEST_P(ChoiceOps, TheLeastAndTheGreatestDrawAreTheFirstAndTheLastId) {
  for (const int64_t width : {33, 2500}) {
    Rows x = Rows::random(2, width, random_);
    std::vector<ChoiceRule> rules(2);
    rules[0].temperature = rules[1].temperature = 1;
    rules[1].uniform = 1 - 0x1p-53;
    const std::vector<ChosenId> found = expect_same(x, rules, fmt::format("width {}", width));
    EXPECT_EQ(found[0].id, 0);
    EXPECT_EQ(found[1].id, ids_of(width) - 1);
  }
}

TEST_P(ChoiceOps, DrawsFromTheMostLikely) {
  ChoiceRule rule;
  rule.temperature = 1.3;
  for (const int64_t k : {1, 5, 400, 100000}) {
    rule.top_k = k;
    draw(fmt::format("top-k {}", k), rule, {33, 2500});
  }
  rule.top_k = 0;
  for (const double p : {0.0, 0.37, 0.93, 0.9999}) {
    rule.top_p = p;
    draw(fmt::format("top-p {}", p), rule, {33, 2500});
  }
  rule.top_k = 17;
  draw("top-k, then top-p", rule);
  rule.min_p = 0.03;
  rule.top_p = 0.93;
  draw("top-k, top-p, min-p", rule, {2500});
  rule.top_k = 0, rule.top_p = 1;
  draw("min-p", rule);
}

// More equal logits than a block has threads: the cut is among them.
TEST_P(ChoiceOps, ManyEqualLogitsAreInTheOrderOfTheirIds) {
  ChoiceRule rule;
  rule.temperature = 0.5, rule.most_likely = 20;
  Rows x(3, 6000);
  for (int64_t r = 0; r < 3; ++r)
    for (int64_t c = 0; c < 6000; ++c) x.row(r)[c] = r == 0 ? 1.5f : c % (r == 1 ? 2 : 700) == 0 ? -3.0f : 2.25f;
  for (const double p : {0.001, 0.6, 1.0})
    for (const int64_t k : {0, 3}) {
      rule.top_p = p, rule.top_k = k, rule.uniform = 0.77;
      expect_same(x, std::vector<ChoiceRule>(3, rule), fmt::format("top-p {}, top-k {}", p, k));
    }
}

TEST_P(ChoiceOps, EditsAreMadeForTheChoiceAlone) {
  constexpr int64_t kWidth = 1000;
  ChoiceRule biased, banned, drawn;
  biased.edits = {{3, 90.0f}, {17, 95.0f, 1.5f}, {18, -200.0f}, {250, 0, 1, 2}};
  for (int32_t id = 0; id < ids_of(kWidth); ++id) banned.edits.push_back({id, 0, 1, id == 21 ? 3 : kInfinity});
  drawn.temperature = 2, drawn.uniform = 0.4, drawn.top_k = 30;
  for (int32_t id = 0; id < 400; id += 3) drawn.edits.push_back({id, 0.5f, 1.8f, 0.25f});
  Rows x = logits(kWidth);
  std::vector<ChosenId> found = expect_same(x, {biased, banned, ChoiceRule{}, drawn, ChoiceRule{}}, "edits");
  EXPECT_EQ(found[0].id, 3);
  EXPECT_EQ(found[0].logit, x.row(0)[3]);
  EXPECT_EQ(found[1].id, 21);
  banned.edits[21].less = kInfinity;
  banned.most_likely = 2;
  found = expect_same(x, std::vector<ChoiceRule>(kRows, banned), "nothing left");
  EXPECT_EQ(found[1].id, -1);
  EXPECT_TRUE(std::isfinite(found[1].log_sum_exp));
}

TEST_P(ChoiceOps, NamesTheMostLikely) {
  for (const int64_t width : {33, 2500}) {
    Rows x = logits(width);
    std::vector<ChoiceRule> rules(kRows);
    for (size_t i = 0; i < rules.size(); ++i) rules[i].most_likely = static_cast<int64_t>(i) * 5;
    rules[2].temperature = 0.7;
    const std::vector<ChosenId> found = expect_same(x, rules, fmt::format("width {}", width));
    EXPECT_EQ(found[2].most_likely[0].id, width - 1) << "also of what is no id";
  }
}

VL2_FOR_EVERY_BACKEND(ChoiceOps);

}  // namespace
}  // namespace vl2::conformance
