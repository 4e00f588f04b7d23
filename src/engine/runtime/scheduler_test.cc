#include "engine/runtime/scheduler.h"

#include <gtest/gtest.h>

#include <memory>

#include "core/base/error.h"

namespace vl2 {
namespace {

class SchedulerTest : public testing::Test {
 protected:
  // `text`: a letter for each full block of the prompt, or nothing.
  Schedulable& arrive(int64_t prompt, int64_t answer = 1, bool encoded = true, const std::string& text = "") {
    auto s = std::make_unique<Schedulable>();
    for (size_t i = 1; i <= text.size(); ++i) s->keys.push_back(sha256(std::as_bytes(std::span(text).first(i))));
    s->prompt_tokens = prompt;
    s->max_cached = prompt + answer - 1;
    s->encode_until = encoded ? 0 : prompt;
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
    scheduler().pass_cached();
    for (const Scheduler::Slice& slice : scheduler().next_step()) {
      text += fmt::format("{}{}+{}{}", text.empty() ? "" : " ", index(slice.sequence), slice.count,
                          slice.samples() ? "!" : "");
      const int64_t begin = slice.sequence->past;
      const bool decoding = slice.sequence->decoding();
      slice.sequence->past += slice.count;
      if (!decoding) scheduler().filled(*slice.sequence, begin);
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
  with_picture.encode_until = 0;
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

TEST_F(SchedulerTest, APromptBeginsBehindWhatIsRememberedOfIt) {
  arrive(35, 2, true, "abc");
  scheduler().admit();
  for (const char* step : {"0+16", "0+16", "0+3!"}) EXPECT_EQ(run_step(), step);
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(blocks_.num_remembered(), 3);
  Schedulable& second = arrive(33, 2, true, "abd");
  Schedulable& third = arrive(33, 2, true, "xbc");
  scheduler().admit();
  EXPECT_EQ(run_step(), "1+13! 2+3");
  EXPECT_EQ(second.cached_tokens, 20);
  EXPECT_EQ(third.cached_tokens, 0);
}

TEST_F(SchedulerTest, TheLastTokenOfAPromptIsAlwaysRun) {
  arrive(30, 2, true, "abc");
  scheduler().admit();
  run_step();
  EXPECT_EQ(run_step(), "0+14!");
  Schedulable& same = arrive(30, 2, true, "abc");
  Schedulable& longer = arrive(31, 2, true, "abc");
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+1! 1+10! 2+1!");
  EXPECT_EQ(same.cached_tokens, 20);
  EXPECT_EQ(longer.cached_tokens, 30);
}

TEST_F(SchedulerTest, PromptsThatArriveTogetherAreComputedOnce) {
  for (int i = 0; i < 3; ++i) arrive(35, 11, true, "abc");
  EXPECT_EQ(scheduler().admit().size(), 3u);
  EXPECT_EQ(blocks_.num_used(), 3 + 3 * 2) << "shared blocks count once";
  EXPECT_EQ(run_step(), "0+16");
  EXPECT_EQ(run_step(), "0+16");
  EXPECT_EQ(run_step(), "0+3! 1+5! 2+5!");
  for (const auto& s : sequences_) scheduler().remove(*s);
  EXPECT_EQ(blocks_.num_used(), 0);
  EXPECT_EQ(blocks_.num_remembered(), 3);
}

TEST_F(SchedulerTest, WhenTheOneThatComputesIsGoneTheNextGoesOn) {
  for (int i = 0; i < 3; ++i) arrive(35, 2, true, "abc");
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+16");
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(run_step(), "1+16") << "behind the first block, which was complete";
  EXPECT_EQ(run_step(), "1+9!");
  EXPECT_EQ(run_step(), "1+1! 2+5!");
  EXPECT_EQ(sequences_[1]->cached_tokens, 10);
  EXPECT_EQ(sequences_[2]->cached_tokens, 30);
}

TEST_F(SchedulerTest, HalfABlockIsNotRemembered) {
  arrive(35, 2, true, "abc");
  scheduler().admit();
  EXPECT_EQ(run_step(), "0+16");
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(blocks_.num_remembered(), 1);
  arrive(35, 2, true, "abc");
  scheduler().admit();
  EXPECT_EQ(run_step(), "1+16");
  EXPECT_EQ(sequences_[1]->cached_tokens, 10);
}

TEST_F(SchedulerTest, TextDoesNotWaitForThePicturesOfSomebodyWithTheSameBeginning) {
  Schedulable& picture = arrive(45, 2, false, "abcd");
  arrive(25, 2, true, "ab");
  scheduler().admit();
  EXPECT_EQ(run_step(), "1+16");
  picture.encode_until = 0;
  EXPECT_EQ(run_step(), "0+16") << "in order of arrival, behind the block that is complete";
  EXPECT_EQ(run_step(), "0+16");
  EXPECT_EQ(run_step(), "0+3! 1+5!");
  EXPECT_EQ(picture.cached_tokens, 10);
  EXPECT_EQ(sequences_[1]->cached_tokens, 4) << "the half block it had begun, completed by the other";
}

TEST_F(SchedulerTest, APictureThatSomebodyBeforeWillRunIsNotEncoded) {
  Schedulable& first = arrive(35, 2, false, "abc");
  Schedulable& second = arrive(35, 2, false, "abc");
  Schedulable& other = arrive(35, 2, false, "xbc");
  scheduler().admit();
  EXPECT_EQ(scheduler().to_encode(), (std::vector<Schedulable*>{&first, &other}));
  scheduler().remove(first);
  EXPECT_EQ(scheduler().to_encode(), (std::vector<Schedulable*>{&second, &other}));
}

TEST_F(SchedulerTest, RememberedBlocksMakeRoomUnlessTheyAreTheOnesNeeded) {
  arrive(50, 1, true, "abcde");
  scheduler().admit();
  for (int i = 0; i < 4; ++i) run_step();
  scheduler().remove(*sequences_[0]);
  EXPECT_EQ(blocks_.num_remembered(), 5);
  arrive(30, 1);  // three of the empty ones
  EXPECT_EQ(scheduler().admit().size(), 1u);
  arrive(41, 31, true, "abcd");  // eight blocks; with its own four only three others are left
  EXPECT_TRUE(scheduler().admit().empty());
  EXPECT_EQ(blocks_.num_remembered(), 5) << "who waits takes nothing";
  scheduler().remove(*sequences_[1]);
  EXPECT_EQ(scheduler().admit().size(), 1u);
  EXPECT_EQ(run_step(), "2+1!");
  EXPECT_EQ(sequences_[2]->cached_tokens, 40);
}

TEST_F(SchedulerTest, WhatNeverFitsIsNotAccepted) { EXPECT_THROW(arrive(90, 12), Error); }

}  // namespace
}  // namespace vl2
