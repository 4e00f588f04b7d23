#include "core/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "core/text/toy_tokenizer.h"

namespace vl2 {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(const std::string& text, SplitBehavior behavior, bool invert = false) {
  PreTokenizer pre_tokenizer;
  SplitStep step;
  step.regex.emplace_back("-", "test");
  step.behavior = behavior;
  step.invert = invert;
  pre_tokenizer.add(std::move(step));
  PreTokenizer::Scratch scratch;
  const auto& pieces = pre_tokenizer.split(text, scratch);
  return Pieces(pieces.begin(), pieces.end());
}

// The example of the reference's documentation of SplitDelimiterBehavior.
TEST(PreTokenizer, TheFiveBehavioursSplitAsDocumented) {
  const std::string text = "the-final--countdown";
  EXPECT_EQ(split(text, SplitBehavior::kRemoved), (Pieces{"the", "final", "countdown"}));
  EXPECT_EQ(split(text, SplitBehavior::kIsolated), (Pieces{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(split(text, SplitBehavior::kMergedWithPrevious), (Pieces{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(split(text, SplitBehavior::kMergedWithNext), (Pieces{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(split(text, SplitBehavior::kContiguous), (Pieces{"the", "-", "final", "--", "countdown"}));
}

TEST(PreTokenizer, MatchesAtTheEndsStandAlone) {
  EXPECT_EQ(split("-a-", SplitBehavior::kMergedWithPrevious), (Pieces{"-", "a-"}));
  EXPECT_EQ(split("-a-", SplitBehavior::kMergedWithNext), (Pieces{"-a", "-"}));
  EXPECT_EQ(split("-", SplitBehavior::kRemoved), Pieces{});
  EXPECT_EQ(split("", SplitBehavior::kIsolated), Pieces{});
}

TEST(PreTokenizer, InvertSwapsMatchesAndGaps) {
  EXPECT_EQ(split("a-b", SplitBehavior::kRemoved, true), (Pieces{"-"}));
  EXPECT_EQ(split("a--b", SplitBehavior::kContiguous, true), (Pieces{"a", "--", "b"}));
}

Pieces toy_pieces(const std::vector<nlohmann::json>& steps, const std::string& text) {
  auto json = toy_tokenizer_json({"a b", "ab ab", "1 2", "\xC4\xA0 ab", ". b"});
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  const Tokenizer tokenizer = parse_toy(json);
  Pieces pieces;
  for (const int32_t id : tokenizer.encode(text)) pieces.emplace_back(tokenizer.token_text(id));
  return pieces;
}

nlohmann::json byte_level(bool prefix = false, bool use_regex = false) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", prefix}, {"use_regex", use_regex}};
}

TEST(PreTokenizer, DigitsAreTakenOneByOneOrTogether) {
  const auto digits = [](bool individual) {
    return nlohmann::json{{"type", "Digits"}, {"individual_digits", individual}};
  };
  EXPECT_EQ(toy_pieces({digits(true), byte_level()}, "ab12"), (Pieces{"ab", "1", "2"}));
  EXPECT_EQ(toy_pieces({digits(false), byte_level()}, "ab12"), (Pieces{"ab", "12"}));
}

TEST(PreTokenizer, StringPatternsAreLiteral) {
  const nlohmann::json dot = {{"type", "Split"}, {"pattern", {{"String", "."}}}, {"behavior", "Isolated"}};
  EXPECT_EQ(toy_pieces({dot, byte_level()}, "ab.bab"), (Pieces{"ab", ".", "b", "ab"}));
  EXPECT_EQ(toy_pieces({byte_level()}, "ab.bab"), (Pieces{"ab", ".b", "ab"}));
}

TEST(PreTokenizer, ByteLevelAddsThePrefixSpaceAndGpt2sSplit) {
  EXPECT_EQ(toy_pieces({byte_level(true)}, "ab"), (Pieces{" ab"}));
  EXPECT_EQ(toy_pieces({byte_level(true)}, " ab"), (Pieces{" ab"}));
  EXPECT_EQ(toy_pieces({byte_level(false)}, "abab"), (Pieces{"abab"}));
  EXPECT_EQ(toy_pieces({byte_level(false, true)}, "ab ab's12"), (Pieces{"ab", " ab", "'", "s", "12"}));
}

}  // namespace
}  // namespace vl2
