#include "train/recipe/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace vl2::train {
namespace {

Scheduler scheduler(SchedulerType type) {
  Scheduler s;
  s.type = type;
  return s;
}

TEST(Schedule, WarmUpRisesInEqualStepsToTheWholeRate) {
  for (const SchedulerType type : {SchedulerType::kCosine, SchedulerType::kStep, SchedulerType::kConstant}) {
    const Schedule s(scheduler(type), 2.0, 4, 100);
    EXPECT_DOUBLE_EQ(s.at(0), 0.5);
    EXPECT_DOUBLE_EQ(s.at(1), 1.0);
    EXPECT_DOUBLE_EQ(s.at(3), 2.0);
    EXPECT_DOUBLE_EQ(s.at(4), 2.0);
  }
}

TEST(Schedule, WithoutWarmUpTheFirstStepHasTheWholeRate) {
  EXPECT_DOUBLE_EQ(Schedule(scheduler(SchedulerType::kCosine), 2.0, 0, 100).at(0), 2.0);
  EXPECT_DOUBLE_EQ(Schedule(scheduler(SchedulerType::kConstant), 2.0, 0, 1).at(0), 2.0);
}

TEST(Schedule, CosineEndsExactlyAtItsFloorAndIsHalfwayInTheMiddle) {
  const Schedule s(scheduler(SchedulerType::kCosine), 1.0, 10, 111);
  EXPECT_DOUBLE_EQ(s.at(10), 1.0);
  EXPECT_NEAR(s.at(60), 0.55, 1e-12);
  EXPECT_NEAR(s.at(110), 0.1, 1e-12);
  EXPECT_DOUBLE_EQ(s.at(111), s.at(110));
  EXPECT_DOUBLE_EQ(s.at(100000), s.at(110));
  for (int64_t step = 11; step < 111; ++step) EXPECT_LT(s.at(step), s.at(step - 1)) << step;
}

TEST(Schedule, StepDividesByTheRootOfTenAtHalfAndAtThreeQuarters) {
  for (const int64_t warmup : {0, 10}) {
    const Schedule s(scheduler(SchedulerType::kStep), 1.0, warmup, 200);
    EXPECT_DOUBLE_EQ(s.at(99), 1.0);
    EXPECT_NEAR(s.at(100), 1 / std::sqrt(10.0), 1e-15);
    EXPECT_NEAR(s.at(149), 1 / std::sqrt(10.0), 1e-15);
    EXPECT_NEAR(s.at(150), 0.1, 1e-15);
    EXPECT_NEAR(s.at(199), 0.1, 1e-15);
  }
  // An odd number of steps: the first step with half of them behind it.
  const Schedule odd(scheduler(SchedulerType::kStep), 1.0, 0, 5);
  EXPECT_DOUBLE_EQ(odd.at(2), 1.0);
  EXPECT_NEAR(odd.at(3), 1 / std::sqrt(10.0), 1e-15);
  EXPECT_NEAR(odd.at(4), 0.1, 1e-15);
}

TEST(Schedule, ConstantStaysAsItIs) {
  const Schedule s(scheduler(SchedulerType::kConstant), 3e-5, 2, 1000);
  EXPECT_DOUBLE_EQ(s.at(2), 3e-5);
  EXPECT_DOUBLE_EQ(s.at(999), 3e-5);
}

TEST(Schedule, AWholeRunOfWarmUpIsPossible) {
  const Schedule s(scheduler(SchedulerType::kCosine), 1.0, 3, 3);
  EXPECT_DOUBLE_EQ(s.at(2), 1.0);
  EXPECT_DOUBLE_EQ(Schedule(scheduler(SchedulerType::kCosine), 1.0, 2, 3).at(2), 1.0);
}

}  // namespace
}  // namespace vl2::train
