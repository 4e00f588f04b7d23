#include "data/tokenizer/train_bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/text/tokenizer.h"

namespace vl2::data {
namespace {

const std::vector<std::string> kTexts = {
    "What colour is the circle?",           "The circle is red.", "The red circle is left.", "红色的圆形", "红色的方块",
    "There are 123 circles and 45 squares."};

std::string learn(const std::vector<std::string>& texts, const BpeOptions& options) {
  BpeTrainer trainer;
  for (const std::string& text : texts) trainer.add(text);
  return trainer.tokenizer_json(options);
}

TEST(TrainBpe, TextsComeBackByteForByte) {
  const Tokenizer tokenizer = Tokenizer::parse(learn(kTexts, {.vocab_size = 300}), "learnt");
  for (const std::string& text :
       {std::string("What colour?"), std::string("红色的 é\n\n\t42 𝄞"), std::string(" x  y ")})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(TrainBpe, FrequentWordsBecomeOneTokenAndRareOnesDoNot) {
  std::vector<std::string> texts(50, "the circle");
  texts.push_back("the zebra");
  const Tokenizer tokenizer = Tokenizer::parse(learn(texts, {.vocab_size = 320}), "learnt");
  EXPECT_EQ(tokenizer.encode(" circle").size(), 1u);
  EXPECT_GT(tokenizer.encode(" zebra").size(), 3u);  // each of its pairs was seen once
}

TEST(TrainBpe, WordsWithoutASpaceInFrontStayLetters) {
  const std::vector<std::string> texts(100, "hello hello");
  const Tokenizer tokenizer = Tokenizer::parse(learn(texts, {.vocab_size = 400}), "learnt");
  EXPECT_EQ(tokenizer.encode("hello").size(), 5u);
  EXPECT_EQ(tokenizer.encode("hello hello").size(), 6u);
}

TEST(TrainBpe, DigitsStayTokensOfTheirOwn) {
  const std::vector<std::string> texts(100, "123 and 123, 1234");
  const Tokenizer tokenizer = Tokenizer::parse(learn(texts, {.vocab_size = 400}), "learnt");
  EXPECT_EQ(tokenizer.encode("123").size(), 3u);
}

TEST(TrainBpe, TheVocabularyIsAsLargeAsAsked) {
  const std::vector<std::string> texts(10, "What colour is the circle in the middle of the picture, and where is it?");
  const int64_t special = static_cast<int64_t>(leading_special_tokens().size() + trailing_special_tokens().size());
  for (const int64_t size : {256 + special, 256 + special + 1, int64_t{300}}) {
    const Tokenizer tokenizer = Tokenizer::parse(learn(texts, {.vocab_size = size}), "learnt");
    EXPECT_EQ(tokenizer.token_id(trailing_special_tokens().back()), size - 1);
    EXPECT_EQ(tokenizer.token_id("<｜begin▁of▁sentence｜>"), 0);
    EXPECT_EQ(tokenizer.token_id("<｜end▁of▁sentence｜>"), 1);
  }
}

TEST(TrainBpe, TheOrderOfTextsChangesNothing) {
  std::vector<std::string> reversed = kTexts;
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_EQ(learn(kTexts, {.vocab_size = 300}), learn(reversed, {.vocab_size = 300}));
}

TEST(TrainBpe, NoRoomForTheBytesIsAnError) {
  EXPECT_THROW(learn(kTexts, {.vocab_size = 200}), Error);
  BpeTrainer trainer;
  EXPECT_THROW(trainer.add("\xff"), Error);
}

}  // namespace
}  // namespace vl2::data
