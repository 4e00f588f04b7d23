// Behaviour on a toy vocabulary: needs no data.
#include "core/text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/text/incremental_decoder.h"
#include "core/text/toy_tokenizer.h"

namespace vl2 {
namespace {

using Ids = std::vector<int32_t>;

Ids bytes_of(const std::string& text) {
  Ids ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

TEST(Tokenizer, MergesStayInsidePieces) {
  const Tokenizer tokenizer = parse_toy(toy_tokenizer_json({"a b", "b a"}));
  EXPECT_EQ(tokenizer.encode("abab"), (Ids{256, 256}));
  EXPECT_EQ(tokenizer.encode("ab1ba"), (Ids{256, '1', 257}));
  EXPECT_EQ(tokenizer.encode("a b"), bytes_of("a b"));  // " b" is a piece of its own
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(Tokenizer, ReadsMergesAsStringsAndAsPairs) {
  auto json = toy_tokenizer_json({"a b", "ab c"});
  const Ids expected = parse_toy(json).encode("abcab");
  json["model"]["merges"] =
      nlohmann::json::array({nlohmann::json::array({"a", "b"}), nlohmann::json::array({"ab", "c"})});
  EXPECT_EQ(parse_toy(json).encode("abcab"), expected);
  EXPECT_EQ(expected, (Ids{257, 256}));
}

TEST(Tokenizer, AddedTokensMatchLeftmostThenLongest) {
  auto json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(300, "<a>"), toy_added(301, "<a><b>"), toy_added(302, "a><")};
  const Tokenizer tokenizer = parse_toy(json);
  EXPECT_EQ(tokenizer.encode("<a>"), Ids{300});
  EXPECT_EQ(tokenizer.encode("x<a><b>y"), (Ids{'x', 301, 'y'}));
  EXPECT_EQ(tokenizer.encode("<a><c>"), (Ids{300, '<', 'c', '>'}));
  EXPECT_EQ(tokenizer.encode("a><a>"), (Ids{302, 'a', '>'}));
  EXPECT_EQ(tokenizer.encode("<a"), (Ids{'<', 'a'}));
  EXPECT_EQ(tokenizer.vocab_size(), 259);
  EXPECT_EQ(tokenizer.highest_id(), 302);
  EXPECT_FALSE(tokenizer.has(299));
  EXPECT_EQ(tokenizer.token_text(299), "");
}

TEST(Tokenizer, NormalizedAddedTokensGetWhatTheOthersLeave) {
  auto json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(300, "<x<", false, true), toy_added(301, "<y>")};
  EXPECT_EQ(parse_toy(json).encode("<x<y>"), (Ids{'<', 'x', 301}));
}

TEST(Tokenizer, StrippingTokensTakeTheWhitespaceAlong) {
  auto json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(300, "<l>"), toy_added(301, "<r>")};
  json["added_tokens"][0]["lstrip"] = true;
  json["added_tokens"][1]["rstrip"] = true;
  const Tokenizer tokenizer = parse_toy(json);
  EXPECT_EQ(tokenizer.encode("a \xE3\x80\x80<l> b"), (Ids{'a', 300, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("a <r> \n b"), (Ids{'a', ' ', 301, 'b'}));
  EXPECT_EQ(tokenizer.encode("<r>  <l>"), (Ids{301, 300}));
}

TEST(Tokenizer, OnlyAllowedTokensAreRecognisedInTextOfOutsiders) {
  auto json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(300, "<eos>"), toy_added(301, "<ref>")};
  const Tokenizer tokenizer = parse_toy(json);
  const Ids allowed = {301};
  EXPECT_EQ(tokenizer.encode("<ref>", allowed), Ids{301});
  EXPECT_EQ(tokenizer.encode("<eos>", allowed), bytes_of("<eos>"));
  EXPECT_EQ(tokenizer.encode("<eos>", Ids{}), bytes_of("<eos>"));
}

TEST(Tokenizer, BytesThatAreNotUtf8CountAsReplacementCharacters) {
  const Tokenizer tokenizer = parse_toy(toy_tokenizer_json());
  EXPECT_EQ(tokenizer.encode("a\xFFz"), bytes_of("a\xEF\xBF\xBDz"));
  EXPECT_EQ(tokenizer.encode("\xE4\xBD"), bytes_of("\xEF\xBF\xBD"));
  EXPECT_EQ(tokenizer.encode(std::string("x\0y", 3)), bytes_of(std::string("x\0y", 3)));
}

TEST(Tokenizer, DecodeSkipsUnknownIdsAndSpecialsOnRequest) {
  auto json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(300, "<s>"), toy_added(301, "<t>", false)};
  const Tokenizer tokenizer = parse_toy(json);
  const Ids ids = {'a', 300, 301, 99999, -1, 299, INT32_MAX, INT32_MIN, 'b'};
  EXPECT_EQ(tokenizer.decode(ids), "a<s><t>b");
  EXPECT_EQ(tokenizer.decode(ids, true), "a<t>b");
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.is_special(301));
  EXPECT_TRUE(tokenizer.is_added(301));
  EXPECT_FALSE(tokenizer.is_added('a'));
}

TEST(Tokenizer, AddedTokensInLatin1AreEmittedLiterally) {
  auto json = toy_tokenizer_json({"\xC3\xB6 a"});  // the character ö spells the byte 0xF6
  json["model"]["vocab"].erase(
      "\xC3\xB6"
      "a");
  json["model"]["merges"] = nlohmann::json::array();
  json["model"]["vocab"].erase("\xC3\xB6");
  json["added_tokens"] = {toy_added(300, "\xC3\xB6", false, true)};
  const Tokenizer tokenizer = parse_toy(json);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("K\xC3\xB6ln")), "K\xC3\xB6ln");
}

TEST(Tokenizer, AWholePieceInTheVocabularyStaysWholeWithIgnoreMerges) {
  auto json = toy_tokenizer_json({"a b"});
  json["model"]["vocab"]["abc"] = 400;
  EXPECT_EQ(parse_toy(json).encode("abc"), (Ids{256, 'c'}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(parse_toy(json).encode("abc"), Ids{400});
}

TEST(Tokenizer, AddSpecialTokenGivesNewIdsOnlyToNewTexts) {
  auto json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(300, "<old>", false)};
  Tokenizer tokenizer = parse_toy(json);
  EXPECT_EQ(tokenizer.add_special_token("<old>"), 300);
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_EQ(tokenizer.add_special_token("<new>"), 301);
  EXPECT_EQ(tokenizer.add_special_token("<new>"), 301);
  EXPECT_EQ(tokenizer.add_special_token("<\xE4\xBD\xA0>"), 302);
  EXPECT_EQ(tokenizer.encode("a<new>b"), (Ids{'a', 301, 'b'}));
  EXPECT_EQ(tokenizer.decode(Ids{302}), "<\xE4\xBD\xA0>");
  EXPECT_EQ(tokenizer.token_id("<new>"), 301);
  EXPECT_FALSE(tokenizer.token_id("<none>").has_value());
  EXPECT_THROW(tokenizer.add_special_token(""), Error);
  EXPECT_THROW(tokenizer.add_special_token("\xFF"), Error);
}

TEST(Tokenizer, LongTextsOfOneKindTakeAboutLinearTime) {
  auto json = toy_tokenizer_json({"a a", "aa aa", "\xC4\xA0 \xC4\xA0"});
  json["added_tokens"] = {toy_added(300, "<<<<<<<<x")};
  const Tokenizer tokenizer = parse_toy(json);
  constexpr size_t kLong = 1'000'000;
  EXPECT_EQ(tokenizer.encode(std::string(kLong, 'a')).size(), kLong / 4);
  EXPECT_EQ(tokenizer.encode(std::string(kLong, ' ')).size(), kLong / 2);
  EXPECT_EQ(tokenizer.encode(std::string(kLong, '<')).size(), kLong);
  EXPECT_EQ(tokenizer.encode(std::string(kLong, '\xFF')).size(), 3 * kLong);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string(kLong, 'a'))), std::string(kLong, 'a'));
}

TEST(Tokenizer, ManyThreadsMayEncodeAtATime) {
  const Tokenizer tokenizer = parse_toy(toy_tokenizer_json({"a b", "ab c"}));
  const Ids expected = tokenizer.encode("abc cab abcabc");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) wrong[t] += tokenizer.encode("abc cab abcabc") != expected;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, LoadTakesAFileOrItsFolder) {
  const auto folder = std::filesystem::temp_directory_path() / "vl2_tokenizer_test";
  std::filesystem::create_directories(folder);
  std::filesystem::remove(folder / "tokenizer.json");
  try {
    Tokenizer::load(folder);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos);
  }
  std::ofstream(folder / "tokenizer.json") << toy_tokenizer_json().dump();
  EXPECT_EQ(Tokenizer::load(folder).vocab_size(), 256);
  EXPECT_EQ(Tokenizer::load(folder / "tokenizer.json").vocab_size(), 256);
  std::filesystem::remove_all(folder);
  try {
    Tokenizer::load(folder / "tokenizer.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  }
}

TEST(IncrementalDecoder, ItsPartsJoinToDecode) {
  auto json = toy_tokenizer_json({"\xC3\xA4 \xC2\xBD", "\xC3\xB0 \xC5\x81"});  // halves of characters as tokens
  json["added_tokens"] = {toy_added(300, "<s>"), toy_added(301, "<\xE4\xBD\xA0>", false)};
  const Tokenizer tokenizer = parse_toy(json);
  const Ids choices = {'a', 0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0x98, 0x80, 0xFF, 256, 257, 300, 301, 9999};
  Random random(3);
  for (int round = 0; round < 3000; ++round) {
    Ids ids;
    for (int64_t i = random.below(16); i > 0; --i)
      ids.push_back(choices[static_cast<size_t>(random.below(static_cast<int64_t>(choices.size())))]);
    for (const bool skip_special : {false, true}) {
      IncrementalDecoder decoder(tokenizer, skip_special);
      std::string joined;
      for (const int32_t id : ids) {
        const std::string part = decoder.push(id);
        EXPECT_EQ(repair_utf8(part), part);
        joined += part;
      }
      joined += decoder.finish();
      ASSERT_EQ(joined, tokenizer.decode(ids, skip_special));
    }
  }
}

TEST(IncrementalDecoder, HoldsBackHalfACharacterAndOnlyThat) {
  const Tokenizer tokenizer = parse_toy(toy_tokenizer_json());
  IncrementalDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push(0xBD), "");
  EXPECT_EQ(decoder.push(0xA0), "\xE4\xBD\xA0");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push('b'),
            "\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.finish(), "");
}

}  // namespace
}  // namespace vl2
