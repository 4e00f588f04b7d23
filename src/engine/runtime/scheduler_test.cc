#include "engine/runtime/scheduler.h"

#include <gtest/gtest.h>

#include <memory>

#include "core/base/error.h"

namespace vl2 {
namespace {

class SchedulerTest : public testing::Test {
 protected:
  Schedulable& arrive(int64_t prompt, int64_t answer = 1, bool encoded = true) {
    auto s = std::make_unique<Schedulable>();
    s->prompt_tokens = prompt;
    s->max_cached = prompt + answer - 1;
    s->encoded = encoded;
    scheduler().add(*s);
    sequences_.push_back(std::move(s));
    return *sequences_.back();
  }
  Scheduler& scheduler() {
    if (!scheduler_) scheduler_ = std::make_unique<Scheduler>(limits_, blocks_);
    return *scheduler_;
  }
  // "0+16 2+1": which sequence, how many tokens; and moves everybody on.
  std::string run_step() {
    std::string text;
    for (const Scheduler::Slice& slice : scheduler().next_step()) {
      text += fmt::format("{}{}+{}{}", text.empty() ? "" : " ", index(slice.sequence), slice.count,
                          slice.samples() ? "!" : "");
      slice.sequence->past += slice.count;
    }
    return text;
  }
  size_t index(const Schedulable* s) const {
    size_t i = 0;
    while (sequences_[i].get() != s) ++i;
    return i;
  }

  SchedulerLimits limits_{16, 100, 4};
  KvBlocks blocks_{10, 10};  // 100 tokens
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::unique_ptr<Schedulable>> sequences_;
};

TEST_F(SchedulerTest, DecodingSequencesAndOneChunkOfPromptsShareAStep) {
  arrive(3, 9);
  arrive(20, 9);
  arrive(5, 9);
  EXPECT_EQ(scheduler().admit().size(), 3u);
  EXPECT_EQ(run_step(), "0+3! 1+13");
  EXPECT_EQ(run_step(), "0+1! 1+7! 2+5!");
  EXPECT_EQ(run_step(), "0+1! 1+1! 2+1!");
}

TEST_F(SchedulerTest, DraftsRunBehindTheirSequenceAndTakeNothingFromPrompts) {
  Schedulable& first = arrive(3, 9);
  arrive(30, 9);
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+3! 1+13");
  first.drafts = 4;
  EXPECT_EQ(scheduler().next_step()[0].logit_rows(), 5) << "of all its rows";
  EXPECT_EQ(scheduler().next_step()[1].logit_rows(), 0) << "the prompt is not complete";
  EXPECT_EQ(run_step(), "0+5! 1+16");
  first.drafts = 2;
  EXPECT_EQ(scheduler().next_step()[1].logit_rows(), 1);
  EXPECT_EQ(run_step(), "0+3! 1+1!");
  first.drafts = 1;
  EXPECT_THROW(scheduler().next_step(), Error) << "it has no cache left behind its last token";
}

TEST_F(SchedulerTest, RequestsJoinBetweenSteps) {
  arrive(4, 9);
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+4!");
  arrive(6, 9);
  EXPECT_EQ(run_step(), "0+1!");  // not admitted yet
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+1! 1+6!");
}

TEST_F(SchedulerTest, AChunkOfZeroTakesPromptsWholeAndNeverMoreThanTheContext) {
  limits_.prefill_chunk = 0;
  limits_.max_context = 50;
  arrive(30);
  arrive(30);
  arrive(20);
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+30!");  // the second does not fit any more, and the third must not overtake it
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(run_step(), "1+30! 2+20!");
}

TEST_F(SchedulerTest, TheFirstThatDoesNotFitHoldsBackTheOthers) {
  arrive(50, 11);  // 6 blocks
  arrive(41, 10);  // 5
  arrive(1, 1);    // 1: would fit
  EXPECT_EQ(scheduler().admit().size(), 1u);
  EXPECT_EQ(scheduler().waiting().size(), 2u);
  EXPECT_EQ(blocks_.num_used(), 6);
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(scheduler().admit().size(), 2u);
  EXPECT_EQ(blocks_.num_used(), 6);
}

TEST_F(SchedulerTest, AtMostSoManySequencesRun) {
  limits_.max_sequences = 2;
  for (int i = 0; i < 3; ++i) arrive(1);
  EXPECT_EQ(scheduler().admit().size(), 2u);
  scheduler().remove(*sequences_[1]);
  EXPECT_EQ(scheduler().admit(), std::vector<Schedulable*>{sequences_[2].get()});
}

TEST_F(SchedulerTest, RemovingAWaitingRequestLetsTheNextOneGo) {
  arrive(100);
  arrive(90);
  arrive(5);
  scheduler().admit();
  scheduler().remove(*sequences_[1]);
  EXPECT_TRUE(scheduler().admit().empty());
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(scheduler().admit(), std::vector<Schedulable*>{sequences_[2].get()});
  scheduler().remove(*sequences_[2]);
  EXPECT_EQ(blocks_.num_used(), 0);
}

TEST_F(SchedulerTest, PromptsWaitForTheirPicturesOthersGoOn) {
  Schedulable& with_picture = arrive(20, 5, false);
  arrive(6, 5);
  scheduler().admit();
  EXPECT_EQ(scheduler().to_encode(), std::vector<Schedulable*>{&with_picture});
  EXPECT_EQ(run_step(), "1+6!");
  with_picture.encoded = true;
  EXPECT_TRUE(scheduler().to_encode().empty());
  EXPECT_EQ(run_step(), "0+16 1+1!");
}

TEST_F(SchedulerTest, PicturesAreEncodedNoFurtherAheadThanAStep) {
  Schedulable& first = arrive(16, 1, true);
  Schedulable& second = arrive(16, 1, false);
  scheduler().admit();
  EXPECT_TRUE(scheduler().to_encode().empty());  // the next step is full without it
  first.past = 1;
  EXPECT_EQ(scheduler().to_encode(), std::vector<Schedulable*>{&second});
}

TEST_F(SchedulerTest, WhatNeverFitsIsNotAccepted) { EXPECT_THROW(arrive(90, 12), Error); }

}  // namespace
}  // namespace vl2
