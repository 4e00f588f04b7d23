#include "engine/runtime/drafter.h"

#include <gtest/gtest.h>

#include "core/base/random.h"

namespace vl2 {
namespace {

using Ids = std::vector<int32_t>;

// A sentence said so many times.
Ids repeated(int times) {
  Ids ids;
  for (int i = 0; i < times; ++i)
    for (int32_t id = 10; id < 40; ++id) ids.push_back(id);
  return ids;
}

Drafter drafter(Speculation speculation, const Ids& prompt) { return Drafter(speculation, prompt, {}); }

// Every further row costs as much as a step of its own.
StepCost dear() {
  StepCost cost;
  for (int i = 0; i < 100; ++i) {
    cost.measured(1, 10);
    for (int j = 0; j < 8; ++j) cost.measured(4, 40);
  }
  return cost;
}
// Further rows cost nothing.
StepCost cheap() {
  StepCost cost;
  for (int i = 0; i < 100; ++i) {
    cost.measured(1, 10);
    for (int j = 0; j < 8; ++j) cost.measured(4, 10);
  }
  return cost;
}

TEST(StepCost, OneRowIsTheUnitAndRowsCostMoreAndMore) {
  const StepCost cost;
  EXPECT_EQ(cost.of(1), 1);
  for (int64_t rows = 2; rows <= 1 + kMostDrafts; ++rows) {
    EXPECT_GT(cost.of(rows), cost.of(rows - 1));
    EXPECT_LT(cost.of(rows), static_cast<double>(rows)) << "otherwise nothing is ever drafted";
  }
}

TEST(StepCost, FollowsWhatIsMeasured) {
  EXPECT_LT(cheap().of(9), 1.2);
  EXPECT_NEAR(dear().of(4), 4, 0.3);
  StepCost unknown;
  unknown.measured(5, 1000);  // in steps of one row: nobody knows yet
  EXPECT_EQ(unknown.of(5), StepCost().of(5));
}

TEST(StepCost, OneSlowStepIsNoMeasureAndOldOnesAreForgotten) {
  StepCost cost;
  for (int i = 0; i < 8; ++i) cost.measured(1, 10);
  cost.measured(1, 1000);
  EXPECT_GT(cost.of(2), 1.4) << "one row would seem to cost more than two";
  StepCost forgetting = dear();
  for (int i = 0; i < 2000; ++i) forgetting.measured(1, 10);
  EXPECT_NEAR(forgetting.of(4), StepCost().of(4), 0.1);
}

TEST(Drafter, OffDraftsNothingAndAlwaysAllThereIs) {
  const Ids prompt = repeated(2);
  EXPECT_TRUE(drafter(Speculation::kOff, prompt).draft(8, 1, cheap()).empty());
  EXPECT_EQ(drafter(Speculation::kAlways, prompt).draft(8, 1, dear()), Ids(prompt.begin(), prompt.begin() + 8));
  EXPECT_EQ(drafter(Speculation::kAlways, prompt).draft(3, 1, dear()).size(), 3u);
  EXPECT_TRUE(drafter(Speculation::kAlways, {1, 2, 3}).draft(8, 1, cheap()).empty());
}

TEST(Drafter, RepeatedTextIsDraftedFurtherAndFurther) {
  const Ids prompt = repeated(1);
  Drafter d = drafter(Speculation::kAuto, prompt);
  EXPECT_TRUE(d.draft(8, 1, {}).empty());
  size_t first = 0;
  for (const int32_t id : prompt) {
    d.push(id);
    if (id == 13) first = d.draft(8, 1, {}).size();
  }
  for (const int32_t id : prompt) d.push(id);
  EXPECT_EQ(d.draft(8, 1, {}), Ids(prompt.begin(), prompt.begin() + 8));
  EXPECT_LT(first, 8u);
}

TEST(Drafter, GuessesThatWereNotTriedCountAsWell) {
  const Ids prompt = repeated(1);
  Drafter d = drafter(Speculation::kAuto, prompt);
  for (int i = 0; i < 3; ++i)
    for (const int32_t id : prompt) d.push(id);  // nothing was drafted meanwhile
  EXPECT_EQ(d.draft(8, 1, {}).size(), 8u);
}

TEST(Drafter, TextThatDoesNotRepeatItselfIsLeftAlone) {
  Random random(1);
  Drafter d = drafter(Speculation::kAuto, {});
  int64_t drafted = 0;
  for (int i = 0; i < 1000; ++i) {
    drafted += static_cast<int64_t>(d.draft(8, 1, {}).size());
    d.push(static_cast<int32_t>(random.below(50)));  // every token was there before: a guess each time
  }
  EXPECT_LT(drafted, 20);
}

TEST(Drafter, WhatRowsCostDecides) {
  const Ids prompt = repeated(1);
  Drafter d = drafter(Speculation::kAuto, prompt);
  for (const int32_t id : prompt) d.push(id);
  EXPECT_EQ(d.draft(8, 1, cheap()).size(), 8u);
  EXPECT_TRUE(d.draft(8, 1, dear()).empty());
}

TEST(Drafter, BesideOthersADraftMustBeSurer) {
  Drafter d = drafter(Speculation::kAuto, repeated(1));
  size_t alone = 0, beside = 0;
  for (const int32_t id : repeated(1)) {
    d.push(id);
    alone += d.draft(8, 1, {}).size();
    beside += d.draft(8, 8, {}).size();
  }
  EXPECT_GT(alone, 0u);
  EXPECT_LT(beside, alone);
}

TEST(Drafter, PicturesAreNotDrafted) {
  const Ids prompt = {5, 0, 0, 0, 0, 6, 5};
  const std::vector<uint8_t> mask = {0, 1, 1, 1, 1, 0, 0};
  EXPECT_TRUE(Drafter(Speculation::kAlways, prompt, mask).draft(8, 1, {}).empty());
  EXPECT_EQ(Drafter(Speculation::kAlways, prompt, {}).draft(2, 1, {}), (Ids{0, 0}));
}

}  // namespace
}  // namespace vl2
