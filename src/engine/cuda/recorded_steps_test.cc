#include "engine/cuda/recorded_steps.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/error.h"
#include "engine/cuda/kernels/rows.h"

namespace vl2::cuda {
namespace {

class RecordedStepsTest : public testing::Test {
 protected:
  RecordedStepsTest() : device_(open_device(0)), steps_(*device_), x_(*device_, 64), y_(*device_, 64) {
    const std::vector<float> zeros(16), ones(16, 1.0f);
    device_->upload(x_.data(), zeros.data(), 64);
    device_->upload(y_.data(), ones.data(), 64);
  }
  void add() {
    ++asked_;
    cuda::add(device_->stream(), {x_.as<float>(), 4, 1, 4, 4, 4}, {y_.as<float>(), 4, 1, 4, 4, 4});
  }
  float value() {
    float values[16];
    device_->download(values, x_.data(), sizeof values);
    return values[5];
  }

  std::unique_ptr<Device> device_;
  RecordedSteps steps_;
  DeviceBuffer x_, y_;
  int asked_ = 0;
};

TEST_F(RecordedStepsTest, AreLaunchedThenRecordedThenReplayed) {
  for (int i = 1; i <= 4; ++i) {
    steps_.run({1, 2}, [&] { add(); });
    EXPECT_EQ(value(), static_cast<float>(i));
  }
  EXPECT_EQ(asked_, 2);
  steps_.run({1, 3}, [&] { add(); });
  EXPECT_EQ(asked_, 3);
  EXPECT_EQ(value(), 5.0f);
  EXPECT_EQ(steps_.counts(), "steps: 2 launched, 1 recorded, 3 replayed");
  steps_.forget();
  steps_.run({1, 2}, [&] { add(); });
  EXPECT_EQ(asked_, 4);
  EXPECT_EQ(value(), 6.0f);
}

TEST_F(RecordedStepsTest, WhatCannotBeRecordedIsLaunchedEveryTime) {
  for (int i = 1; i <= 3; ++i) {
    steps_.run({1}, [&] {
      add();
      const DeviceBuffer scratch(*device_, 64);
    });
    EXPECT_EQ(value(), static_cast<float>(i));  // what was recorded before the allocation is not done twice
  }
  EXPECT_EQ(steps_.counts(), "steps: 3 launched, 0 recorded, 0 replayed");
}

TEST_F(RecordedStepsTest, ErrorsArePassedOnAndTheNextStepIsDone) {
  steps_.run({1}, [&] { add(); });
  EXPECT_THROW(steps_.run({1}, [&] { fail(ErrorCode::kInternal, "no"); }), Error);
  steps_.run({1}, [&] { add(); });
  EXPECT_EQ(value(), 2.0f);
}

TEST_F(RecordedStepsTest, MemoryReleasedMeanwhileIsFreedAfterwards) {
  auto scratch = std::make_unique<DeviceBuffer>(*device_, 64);
  steps_.run({1}, [&] { add(); });
  steps_.run({1}, [&] {
    scratch.reset();
    add();
  });
  EXPECT_EQ(value(), 2.0f);
}

TEST(WorthRecording, FewRowsOfAnswersAlone) {
  const SequenceSlice answer{.begin = 0, .count = 1, .past = 5, .blocks = {}, .decode = true};
  const SequenceSlice many{.begin = 1, .count = 64, .past = 5, .blocks = {}, .decode = true};
  const SequenceSlice prompt{.begin = 1, .count = 1, .past = 5, .blocks = {}, .decode = false};
  EXPECT_TRUE(worth_recording(std::vector{answer}));
  EXPECT_TRUE(worth_recording(std::vector{many}));
  EXPECT_FALSE(worth_recording(std::vector{answer, many}));
  EXPECT_FALSE(worth_recording(std::vector{answer, prompt}));
  EXPECT_FALSE(worth_recording({}));
}

}  // namespace
}  // namespace vl2::cuda
