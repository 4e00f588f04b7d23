#include "engine/model/trace_drift.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace vl2 {
namespace {

template <typename T>
TraceTensor tensor(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  return {name, dtype, shape, {bytes, bytes + values.size() * sizeof(T)}};
}
TraceTensor floats(const std::string& name, const Shape& shape, const std::vector<float>& values) {
  return tensor(name, DType::kF32, shape, values);
}

TraceCase two_tokens(bool picture) {
  TraceCase c;
  c.length = 2;
  c.input_ids = {1, 2};
  c.image_mask = {static_cast<uint8_t>(picture ? 1 : 0), 0};
  c.attention_mask = {1, 1};
  return c;
}

TEST(TraceDrift, EqualTracesDriftNowhere) {
  const std::vector<TraceTensor> a = {floats("hidden.0", {1, 2, 2}, {1, 2, 3, 4}),
                                      floats("logits", {1, 2, 3}, {1, 2, 3, 0, 5, 1})};
  DriftMeter meter(0);
  meter.add(two_tokens(false), a, a);
  const DriftReport report = meter.report();
  ASSERT_EQ(report.stages.size(), 2u);
  EXPECT_EQ(report.stages[0].relative_error, 0);
  EXPECT_EQ(report.first_above(0), nullptr);
  EXPECT_EQ(report.prompt.rows, 2);
  EXPECT_EQ(report.prompt.same_best, 2);
  EXPECT_NEAR(report.prompt.max_kl, 0, 1e-12);
}

TEST(TraceDrift, ErrorsAreRelativeToTheValuesOverAllCases) {
  DriftMeter meter(0);
  meter.add(two_tokens(false), {floats("vision.out", {2}, {3, 4}), floats("hidden.0", {1, 2, 1}, {1, 1})},
            {floats("vision.out", {2}, {3, 4}), floats("hidden.0", {1, 2, 1}, {1, 1.5})});
  meter.add(two_tokens(false), {floats("vision.out", {2}, {0, 0}), floats("hidden.0", {1, 2, 1}, {1, 1})},
            {floats("vision.out", {2}, {0, 0}), floats("hidden.0", {1, 2, 1}, {1, 1})});
  const DriftReport report = meter.report();
  ASSERT_EQ(report.stages.size(), 2u);
  EXPECT_EQ(report.stages[0].name, "vision.out");
  EXPECT_DOUBLE_EQ(report.stages[1].relative_error, std::sqrt(0.25 / 4));
  EXPECT_DOUBLE_EQ(report.stages[1].largest, 0.5);
  ASSERT_NE(report.first_above(0.2), nullptr);
  EXPECT_EQ(report.first_above(0.2)->name, "hidden.0");
  EXPECT_EQ(report.first_above(0.3), nullptr);
}

TEST(TraceDrift, AValueThatIsNoNumberInOneRunIsInfinitelyFar) {
  DriftMeter meter(0);
  meter.add(two_tokens(false), {floats("hidden.0", {2}, {1, 1})}, {floats("hidden.0", {2}, {1, NAN})});
  EXPECT_TRUE(std::isinf(meter.report().stages[0].relative_error));
}

TEST(TraceDrift, TheDivergenceIsThatOfTheTwoDistributions) {
  const float half = 0, third = std::log(2.0f);
  DriftMeter meter(0);
  // (1/2, 1/2) against (1/3, 2/3); the row inside the picture does not count.
  meter.add(two_tokens(true), {floats("logits", {1, 2, 2}, {9, -9, half, half})},
            {floats("logits", {1, 2, 2}, {-9, 9, half, third})});
  const LogitDrift drift = meter.report().prompt;
  EXPECT_EQ(drift.rows, 1);
  EXPECT_NEAR(drift.mean_kl, 0.5 * std::log(1.5) + 0.5 * std::log(0.75), 1e-6);
  EXPECT_EQ(drift.same_best, 0);
}

TEST(TraceDrift, RoutersDifferByTheExpertsAndNotByTheirOrder) {
  DriftMeter meter(0);
  const auto gate = [](const std::vector<int32_t>& experts) {
    return tensor("gate.3.topk_idx", DType::kI32, {2, 2}, experts);
  };
  meter.add(two_tokens(false), {gate({0, 1, 4, 5})}, {gate({1, 0, 4, 6})});
  const DriftReport report = meter.report();
  ASSERT_EQ(report.routers.size(), 1u);
  EXPECT_EQ(report.routers[0].layer, 3);
  EXPECT_EQ(report.routers[0].tokens, 2);
  EXPECT_EQ(report.routers[0].differing, 1);
}

TEST(TraceDrift, AnswersCountUpToTheEndToken) {
  const auto run = [](const std::vector<int64_t>& tokens) {
    return std::vector<TraceTensor>{tensor("gen.tokens", DType::kI64, {1, 4}, tokens),
                                    floats("gen.logits", {1, 4, 2}, std::vector<float>(8))};
  };
  DriftMeter meter(7);
  meter.add(two_tokens(false), run({4, 5, 7, 1}), run({4, 5, 7, 2}));
  meter.add(two_tokens(false), run({4, 5, 7, 1}), run({4, 6, 7, 1}));
  const DriftReport report = meter.report();
  ASSERT_EQ(report.answers.size(), 2u);
  EXPECT_EQ(report.answers[0].tokens, 3);
  EXPECT_EQ(report.answers[0].first_difference, std::nullopt);
  EXPECT_EQ(report.answers[1].first_difference, 1);
  EXPECT_EQ(report.answer.rows, 6);
}

TEST(TraceDrift, OtherStagesOrSizesAreRefused) {
  DriftMeter meter(0);
  const auto refused = [&](const TraceTensor& a, const TraceTensor& b) {
    EXPECT_THROW(meter.add(two_tokens(false), {a}, {b}), Error);
  };
  refused(floats("hidden.0", {2}, {1, 1}), floats("hidden.1", {2}, {1, 1}));
  refused(floats("hidden.0", {2}, {1, 1}), floats("hidden.0", {1, 2}, {1, 1}));
  EXPECT_THROW(meter.add(two_tokens(false), {floats("hidden.0", {2}, {1, 1})}, {}), Error);
}

}  // namespace
}  // namespace vl2
