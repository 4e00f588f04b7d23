#include "engine/runtime/loop_detector.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/random.h"

namespace vl2 {
namespace {

// The token that ends a loop, counted from 1; 0: none does.
int64_t loops_at(const std::vector<int32_t>& ids) {
  LoopDetector detector;
  for (size_t i = 0; i < ids.size(); ++i)
    if (detector.push(ids[i])) return static_cast<int64_t>(i) + 1;
  return 0;
}

std::vector<int32_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

std::vector<int32_t> rounds(int64_t cycle, int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>(1000 + i % cycle));
  return ids;
}

TEST(LoopDetector, EndsEveryCycleAtItsFourthRoundAndNotBefore128Tokens) {
  for (int64_t cycle = 1; cycle <= 64; ++cycle)
    EXPECT_EQ(loops_at(rounds(cycle, 400)), std::max<int64_t>(128, 4 * cycle)) << cycle;
  EXPECT_EQ(loops_at(rounds(65, 1000)), 0);
}

TEST(LoopDetector, ALoopIsFoundAfterAnyBeginningAndInTheMiddleOfARound) {
  Random random(1);
  std::vector<int32_t> ids;
  for (int i = 0; i < 333; ++i) ids.push_back(static_cast<int32_t>(random.below(900)));
  const auto loop = rounds(37, 500);
  ids.insert(ids.end(), loop.begin() + 11, loop.end());
  EXPECT_EQ(loops_at(ids), 333 + 4 * 37);
}

TEST(LoopDetector, OneOtherTokenBeginsTheCountAnew) {
  std::vector<int32_t> ids = rounds(8, 400);
  ids[127] = 1;
  EXPECT_EQ(loops_at(ids), 128 + 128);
}

TEST(LoopDetector, ListsOfBoxesAndTablesThatDifferAreNoLoops) {
  std::string boxes = "[", table, zeros;
  for (int i = 0; i < 200; ++i) {
    boxes += std::string(i == 0 ? "" : ", ") + "[" + std::to_string(100 + i) + ", 20, 310, 440]";
    table += "| " + std::to_string(i) + " | 0 | 0 | 0 | 0 | 0 |\n";
    zeros += "| row " + std::to_string(i % 10) + " | 0 | 0 |\n";
  }
  EXPECT_EQ(loops_at(bytes(boxes + "]")), 0);
  EXPECT_EQ(loops_at(bytes(table)), 0);
  EXPECT_EQ(loops_at(bytes(zeros)), 0);  // a cycle of ten rows, longer than what counts
  EXPECT_EQ(loops_at(bytes("|" + std::string(100, '-') + "|" + std::string(100, '-') + "|")), 0) << "a table's rule";
  EXPECT_GT(loops_at(bytes("|" + std::string(200, '-'))), 0);
}

TEST(LoopDetector, TheSameBoxAgainAndAgainIsOne) {
  std::string boxes = "[";
  for (int i = 0; i < 50; ++i) boxes += "[12, 20, 310, 440], ";
  EXPECT_EQ(loops_at(bytes(boxes)), 1 + 128);
}

TEST(LoopDetector, RandomTokensOfASmallVocabularyAreNone) {
  Random random(3);
  std::vector<int32_t> ids;
  for (int i = 0; i < 20000; ++i) ids.push_back(static_cast<int32_t>(random.below(2)));
  EXPECT_EQ(loops_at(ids), 0);
}

}  // namespace
}  // namespace vl2
