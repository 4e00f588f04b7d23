#include "core/text/grounding.h"
#include "engine/constrain/constraint_test.h"
#include "engine/constrain/grounding_score.h"

namespace vl2 {
namespace {

// Ids of text in which the tags are tokens.
std::vector<int32_t> encode(TestVocabulary& v, const std::string& text) { return v.tokenizer->encode(text); }

bool takes(TestVocabulary& v, const std::string& text, const std::vector<int32_t>& prompt = {}) {
  ConstraintState state(v.compiler.compile(ConstraintSpec::grounding()), prompt);
  for (const int32_t id : encode(v, text)) {
    const bool allowed = state.allowed().has(id);
    EXPECT_EQ(state.accept(id), allowed) << text;
    if (!allowed) return false;
  }
  return state.may_end();
}

TEST(GroundingConstraint, TakesTheMarkupAsTheModelWritesIt) {
  for (TestVocabulary* v : {&nano_vocabulary(), &toy_vocabulary()}) {
    for (const char* text :
         {"", "no boxes at all", "<|ref|>the cat<|/ref|><|det|>[[580, 270, 999, 900]]<|/det|>",
          "Two <|ref|>dogs<|/ref|><|det|>[[0, 0, 0, 0], [1, 2, 3, 4]]<|/det|> on grass.",
          "a <|ref|>label<|/ref|> without", "<|ref|>a<|/ref|><|ref|>b<|/ref|><|det|>[[7, 7, 10, 100]]<|/det|>",
          "[[9, 9, 1, 1]] is only text < |ref| >"})
      EXPECT_TRUE(takes(*v, text)) << text;
    for (const char* text :
         {"<|det|>[[1, 2, 3, 4]]<|/det|>", "<|ref|>a<|det|>[[1, 2, 3, 4]]<|/det|>", "<|ref|>a", "<|ref|><|/ref|>",
          "<|ref|>a<|/ref|> <|det|>[[1, 2, 3, 4]]<|/det|>", "<|ref|>a<|/ref|><|det|>[]<|/det|>",
          "<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>", "<|ref|>a<|/ref|><|det|>[[1, 2, 3]]<|/det|>",
          "<|ref|>a<|/ref|><|det|>[[5, 2, 4, 4]]<|/det|>", "<|ref|>a<|/ref|><|det|>[[1, 12, 3, 9]]<|/det|>",
          "<|ref|>a<|/ref|><|det|>[[01, 2, 3, 4]]<|/det|>", "<|ref|>a<|/ref|><|det|>[[1, 2, 3, 1000]]<|/det|>",
          "<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4]", "<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4], ]<|/det|>", "<|/ref|>",
          "<|/det|>", "<|ref|>two\nlines<|/ref|>", "<|ref|>a<|ref|>b<|/ref|>",
          "<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4] ]<|/det|>"})
      EXPECT_FALSE(takes(*v, text)) << text;
  }
}

TEST(GroundingConstraint, ASecondCornerIsNeverBegunThatCannotReachTheFirst) {
  TestVocabulary& v = toy_vocabulary();
  ConstraintState state(v.compiler.compile(ConstraintSpec::grounding()));
  for (const int32_t id : encode(v, "<|ref|>a<|/ref|><|det|>[[57, 985, ")) ASSERT_TRUE(state.accept(id));
  EXPECT_FALSE(state.allowed().has('0'));
  EXPECT_TRUE(state.allowed().has('1')) << "100";
  ASSERT_TRUE(state.accept('5'));
  EXPECT_FALSE(state.allowed().has(',')) << "5 is less than 57";
  ASSERT_TRUE(state.accept('7'));
  EXPECT_TRUE(state.allowed().has(','));
  for (const char c : std::string(", 9")) ASSERT_TRUE(state.accept(c));
  EXPECT_FALSE(state.allowed().has('7')) << "979 at most";
  EXPECT_TRUE(state.allowed().has('8'));
  EXPECT_FALSE(state.allowed().has(']'));
}

TEST(GroundingConstraint, TextThatOnlyLooksLikeATagIsNeverWritten) {
  TestVocabulary& v = toy_vocabulary();
  ConstraintState state(v.compiler.compile(ConstraintSpec::grounding()));
  for (const char c : std::string("<<|de<|/ref|")) ASSERT_TRUE(state.accept(c));
  EXPECT_FALSE(state.accept('>'));
  EXPECT_TRUE(state.accept(' '));
  EXPECT_TRUE(state.accept('>'));
}

TEST(GroundingConstraint, RandomAnswersAlwaysParseToBoxesInOrder) {
  size_t boxes = 0;
  for (TestVocabulary* v : {&nano_vocabulary(), &toy_vocabulary()}) {
    const auto constraint = v->compiler.compile(ConstraintSpec::grounding());
    for (uint64_t seed = 1; seed <= 300; ++seed) {
      RandomAnswer answer = random_answer(*v, constraint, seed, 200);
      ASSERT_TRUE(answer.ended) << answer.text;
      const std::string text = v->tokenizer->decode(answer.ids);
      // What stands between each pair of tags is all there is, and numbers come back as they were written.
      std::string again;
      size_t lists = 0;
      for (size_t at = text.find("<|det|>"); at != text.npos; at = text.find("<|det|>", at + 1), ++lists) {
        const auto list =
            nlohmann::json::parse(text.substr(at + 7, text.find("<|/det|>", at) - at - 7), nullptr, false);
        ASSERT_FALSE(list.is_discarded()) << text;
        ASSERT_GE(list.size(), 1u);
        for (const auto& b : list) {
          ASSERT_EQ(b.size(), 4u) << text;
          for (const auto& n : b) ASSERT_TRUE(n >= 0 && n <= 999) << text;
          ASSERT_LE(b[0], b[2]) << text;
          ASSERT_LE(b[1], b[3]) << text;
          ++boxes;
        }
      }
      size_t parsed = 0;
      for (const GroundedObject& object : parse_grounding(text).objects) {
        ++parsed;
        EXPECT_NE(object.label, "") << text;
      }
      ASSERT_EQ(parsed, lists) << text;
    }
  }
  EXPECT_GT(boxes, 300u) << "the test has something to look at";
}

TEST(GroundingConstraint, GoesOnWithWhatThePromptHasBegun) {
  TestVocabulary& v = nano_vocabulary();
  const std::string asked = "<|ref|>the cat<|/ref|>\n\n<|Assistant|>:";
  EXPECT_TRUE(takes(v, "<|ref|>the cat<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>", encode(v, asked)));
  EXPECT_FALSE(takes(v, "<|det|>[[1, 2, 3, 4]]<|/det|>", encode(v, asked)))
      << "the question's phrase is not the answer's";
  EXPECT_TRUE(takes(v, " cat<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>", encode(v, asked + "<|ref|>the")));
  EXPECT_FALSE(takes(v, "and more", encode(v, asked + "<|ref|>the"))) << "the phrase has not ended";
  EXPECT_TRUE(takes(v, "<|det|>[[1, 2, 3, 4]]<|/det|>", encode(v, asked + "<|ref|>the cat<|/ref|>")));
  EXPECT_TRUE(takes(v, "3, 4]]<|/det|>", encode(v, asked + "<|ref|>the cat<|/ref|><|det|>[[1, 2, ")));
  EXPECT_FALSE(takes(v, "0, 4]]<|/det|>", encode(v, asked + "<|ref|>the cat<|/ref|><|det|>[[1, 2, ")));
}

TEST(GroundingConstraint, NeedsATokenizerThatHasTheTags) {
  auto tokenizer = std::make_shared<const Tokenizer>(parse_toy(toy_tokenizer_json()));
  ConstraintCompiler compiler(tokenizer, 0);
  EXPECT_THROW(compiler.compile(ConstraintSpec::grounding()), Error);
}

TEST(GroundingScore, ABoxsScoreIsTheMeanOfItsNumbersProbabilities) {
  TestVocabulary& v = toy_vocabulary();
  const std::vector<int32_t> ids = encode(
      v,
      "x<|ref|>a<|/ref|><|det|>[[1, 20, 3, 400], [5, 6, 7, 8]]<|/det|> y<|ref|>b<|/ref|><|det|>[[0, 0, 9, 9]]<|/det|>");
  // Digits of the first box 1/2 each, of the second 1/4, all else certain or hopeless.
  std::vector<float> logprobs(ids.size(), 0.0f);
  const std::string text = v.tokenizer->decode(ids);
  size_t byte = 0;
  const size_t first = text.find("[["), second = text.find("[5"), third = text.find("[[0");
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string_view piece = v.tokenizer->token_text(ids[i]);
    const bool digit = !v.tokenizer->is_added(ids[i]) && piece.find_first_of("0123456789") != piece.npos;
    if (digit && byte >= first && byte < second) logprobs[i] = std::log(0.5f);
    if (digit && byte >= second && byte < third) logprobs[i] = std::log(0.25f);
    if (!digit) logprobs[i] = -3;
    byte += piece.size();
  }
  const std::vector<ScoredObject> objects = score_grounding(*v.tokenizer, ids, logprobs);
  ASSERT_EQ(objects.size(), 2u);
  EXPECT_EQ(objects[0].label, "a");
  ASSERT_EQ(objects[0].boxes.size(), 2u);
  EXPECT_EQ(objects[0].boxes[0].box, (Box{1, 20, 3, 400}));
  EXPECT_NEAR(objects[0].boxes[0].score, 0.5, 1e-6);
  EXPECT_EQ(objects[0].boxes[1].box, (Box{5, 6, 7, 8}));
  EXPECT_NEAR(objects[0].boxes[1].score, 0.25, 1e-6);
  ASSERT_EQ(objects[1].boxes.size(), 1u);
  EXPECT_NEAR(objects[1].boxes[0].score, 1, 1e-6);
}

TEST(GroundingScore, WhatIsNoBoxOrHasNoNumbersDoesNotBreakIt) {
  TestVocabulary& v = toy_vocabulary();
  for (const char* text :
       {"", "plain", "<|det|>[[1, 2", "<|ref|>a<|/ref|><|det|>[[1, 2, 3]]<|/det|>", "[[1, 2, 3, 4]]"})
    EXPECT_TRUE(
        score_grounding(*v.tokenizer, encode(v, text), std::vector<float>(encode(v, text).size(), 0.0f)).empty())
        << text;
  const std::vector<int32_t> ids = encode(v, "<|ref|>a<|/ref|><|det|>[[1, 2, 3, 4], [5, 6");
  const auto cut = score_grounding(*v.tokenizer, ids, std::vector<float>(ids.size(), 0.0f));
  ASSERT_EQ(cut.size(), 1u);
  EXPECT_EQ(cut[0].boxes.size(), 1u);
  EXPECT_THROW(score_grounding(*v.tokenizer, ids, {}), Error);
}

}  // namespace
}  // namespace vl2
