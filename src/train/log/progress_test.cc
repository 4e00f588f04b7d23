#include "train/log/progress.h"

#include <gtest/gtest.h>

#include <cmath>

namespace vl2::train {
namespace {

TEST(Progress, TheLineSaysStepLossRatesAndWhatIsLeft) {
  StepProgress p;
  p.step = 120;
  p.total = 5000;
  p.loss = 2.31416;
  p.learning_rate = 9.6e-4;
  p.tokens_per_second = 8123;
  p.tiles_per_second = 42.4;
  p.seconds_per_step = 0.8;
  EXPECT_EQ(progress_text(p), "step 120/5000  loss 2.314  lr 9.6e-04  8.1k tok/s  42 tiles/s  left 1 h 05 min");
  p.waiting = 0.123;
  p.skipped = 3;
  p.tiles_per_second = 0;
  p.step = 5000;
  EXPECT_EQ(progress_text(p), "step 5000/5000  loss 2.314  lr 9.6e-04  8.1k tok/s  waiting 12%  skipped 3");
}

TEST(Progress, ALossThatIsNoNumberIsShownAsThat) {
  StepProgress p;
  p.total = 10;
  p.loss = std::nan("");
  EXPECT_EQ(progress_text(p), "step 0/10  loss nan  lr 0.0e+00");
}

TEST(Progress, CountsAreShort) {
  EXPECT_EQ(short_count(0), "0");
  EXPECT_EQ(short_count(7), "7");
  EXPECT_EQ(short_count(7.25), "7.2");
  EXPECT_EQ(short_count(950), "950");
  EXPECT_EQ(short_count(999.7), "1.0k");
  EXPECT_EQ(short_count(12345), "12k");
  EXPECT_EQ(short_count(2.5e6), "2.5M");
  EXPECT_EQ(short_count(1e15), "1000T");
  EXPECT_EQ(short_count(INFINITY), "?");
}

TEST(Progress, TimesHaveTwoUnitsAtMost) {
  EXPECT_EQ(short_time(0.2), "0 s");
  EXPECT_EQ(short_time(59.4), "59 s");
  EXPECT_EQ(short_time(59.6), "1 min 00 s");
  EXPECT_EQ(short_time(3905), "1 h 05 min");
  EXPECT_EQ(short_time(93600), "1 d 02 h");
  EXPECT_EQ(short_time(-1), "?");
  EXPECT_EQ(short_time(NAN), "?");
}

}  // namespace
}  // namespace vl2::train
