#include "engine/runtime/pause.h"

#include <gtest/gtest.h>

namespace vl2 {
namespace {

TEST(TilesBesideAnswers, AsManyAsNobodyNotices) {
  EXPECT_EQ(tiles_beside_answers(0, 4), 1) << "not known yet";
  EXPECT_EQ(tiles_beside_answers(1e-12, 4), 4);
  EXPECT_EQ(tiles_beside_answers(3, 4), 4);
  EXPECT_EQ(tiles_beside_answers(20, 4), 2);
  EXPECT_EQ(tiles_beside_answers(800, 4), 1);
  EXPECT_EQ(tiles_beside_answers(1e12, 4), 1);
}

TEST(PromptTokensBesideAnswers, AQuarterOfASecondOfThem) {
  EXPECT_EQ(prompt_tokens_beside_answers(0, 512), 128) << "not known yet";
  EXPECT_EQ(prompt_tokens_beside_answers(0.01, 512), 512);
  EXPECT_EQ(prompt_tokens_beside_answers(1, 512), 192);
  EXPECT_EQ(prompt_tokens_beside_answers(0.65, 512), 384);
  EXPECT_EQ(prompt_tokens_beside_answers(1e-300, 512), 512);
}

TEST(PromptTokensBesideAnswers, EnoughForExpertsAndNoMoreThanAChunk) {
  EXPECT_EQ(prompt_tokens_beside_answers(10, 512), 128);
  EXPECT_EQ(prompt_tokens_beside_answers(1e12, 512), 128);
  EXPECT_EQ(prompt_tokens_beside_answers(10, 100), 100);
  EXPECT_EQ(prompt_tokens_beside_answers(0, 16), 16);
}

}  // namespace
}  // namespace vl2
