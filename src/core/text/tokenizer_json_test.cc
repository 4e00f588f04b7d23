// Files that are broken, absurd or hostile: each ends in an Error that says where.
#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.h"
#include "core/text/token_table.h"
#include "core/text/toy_tokenizer.h"

namespace vl2 {
namespace {

using Json = nlohmann::json;

void expect_error(const std::string& text, ErrorCode code, const std::string& mentions) {
  try {
    Tokenizer::parse(text, "some/tokenizer.json");
    ADD_FAILURE() << "accepted; expected an error that mentions " << mentions;
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(message.find("some/tokenizer.json: "), 0u) << message;
    EXPECT_NE(message.find(mentions), std::string::npos) << message;
    EXPECT_LT(message.size(), 400u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

void expect_bent(const std::function<void(Json&)>& bend, ErrorCode code, const std::string& mentions) {
  Json json = toy_tokenizer_json({"a b"});
  json["added_tokens"] = {toy_added(300, "<s>")};
  ASSERT_NO_THROW(parse_toy(json));
  bend(json);
  expect_error(json.dump(), code, mentions);
}

constexpr auto kCorrupt = ErrorCode::kCorrupt;
constexpr auto kUnsupported = ErrorCode::kUnsupported;

TEST(TokenizerJson, TextThatIsNoJsonIsCorrupt) {
  expect_error("", kCorrupt, "JSON");
  expect_error("{", kCorrupt, "JSON");
  expect_error("\x80\xFF", kCorrupt, "JSON");
  expect_error("version https://git-lfs.github.com/spec/v1\noid sha256:00\n", kCorrupt, "JSON");
  expect_error(std::string(1'000'000, '['), kCorrupt, "JSON");  // nested deep
  expect_error(toy_tokenizer_json().dump().substr(0, 2000), kCorrupt, "JSON");
  expect_error("{\"model\": \"\\ud800\"}", kCorrupt, "");
  expect_error("[]", kCorrupt, "object");
  expect_error("null", kCorrupt, "object");
}

TEST(TokenizerJson, MissingPartsAreNamed) {
  expect_error("{}", kCorrupt, "model is missing");
  expect_bent([](Json& j) { j["model"].erase("vocab"); }, kCorrupt, "model.vocab is missing");
  expect_bent([](Json& j) { j["model"].erase("merges"); }, kCorrupt, "model.merges is missing");
  expect_bent([](Json& j) { j["model"]["vocab"] = Json::object(); }, kCorrupt, "model.vocab is empty");
  expect_bent([](Json& j) { j["added_tokens"][0].erase("id"); }, kCorrupt, "added_tokens[0].id is missing");
  expect_bent([](Json& j) { j["added_tokens"][0].erase("content"); }, kCorrupt, "added_tokens[0].content is missing");
  expect_bent([](Json& j) { j.erase("pre_tokenizer"); }, kUnsupported, "pre_tokenizer");
  expect_bent([](Json& j) { j["pre_tokenizer"].erase("type"); }, kCorrupt, "pre_tokenizer.type is missing");
}

TEST(TokenizerJson, WrongTypesAreNamed) {
  expect_bent([](Json& j) { j["model"] = 7; }, kCorrupt, "model is not an object");
  expect_bent([](Json& j) { j["model"]["vocab"] = Json::array(); }, kCorrupt, "model.vocab is not an object");
  expect_bent([](Json& j) { j["model"]["merges"] = "a b"; }, kCorrupt, "model.merges is not a list");
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = "x"; }, kCorrupt, "\"a\" is not a whole number");
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = 1.5; }, kCorrupt, "\"a\" is not a whole number");
  expect_bent([](Json& j) { j["model"]["ignore_merges"] = "yes"; }, kCorrupt, "model.ignore_merges");
  expect_bent([](Json& j) { j["model"]["dropout"] = "0"; }, kCorrupt, "model.dropout");
  expect_bent([](Json& j) { j["added_tokens"] = 1; }, kCorrupt, "added_tokens is not a list");
  expect_bent([](Json& j) { j["added_tokens"] = {1}; }, kCorrupt, "added_tokens[0] is not an object");
  expect_bent([](Json& j) { j["added_tokens"][0]["special"] = 1; }, kCorrupt, "added_tokens[0].special");
  expect_bent([](Json& j) { j["added_tokens"][0]["content"] = 1; }, kCorrupt, "added_tokens[0].content");
  expect_bent([](Json& j) { j["pre_tokenizer"] = "ByteLevel"; }, kCorrupt, "pre_tokenizer is not an object");
  expect_bent([](Json& j) { j["normalizer"] = 1; }, kCorrupt, "normalizer is not an object");
}

TEST(TokenizerJson, ImpossibleIdsAreNamed) {
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = -1; }, kCorrupt, "id -1");
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = 1LL << 40; }, kCorrupt, "id 1099511627776");
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = 1ULL << 63; }, kCorrupt, "not a whole number");
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = TokenTable::kMaxId + 1; }, kCorrupt, "expected 0 to");
  expect_bent([](Json& j) { j["model"]["vocab"]["a"] = 98; }, kCorrupt, "id 98 is taken twice");
  expect_bent([](Json& j) { j["added_tokens"][0]["id"] = 97; }, kCorrupt, "id 97 is taken twice");
  expect_bent([](Json& j) { j["added_tokens"][0]["id"] = -5; }, kCorrupt, "id -5");
  expect_bent([](Json& j) { j["added_tokens"].push_back(toy_added(301, "<s>")); }, kCorrupt, "two ids");
  expect_bent([](Json& j) { j["added_tokens"].push_back(toy_added(300, "<s>")); }, kCorrupt, "twice");
  expect_bent([](Json& j) { j["added_tokens"].push_back(toy_added(301, "a")); }, kCorrupt, "two ids");
  expect_bent([](Json& j) { j["added_tokens"].push_back(toy_added(301, "")); }, kCorrupt, "0 bytes");
  expect_bent([](Json& j) { j["added_tokens"].push_back(toy_added(301, std::string(5000, 'x'))); }, kCorrupt, "5000");
  expect_bent([](Json& j) { j["model"]["vocab"][""] = 301; }, kCorrupt, "empty token");
  std::string twice = toy_tokenizer_json().dump();
  const size_t at = twice.find("\"vocab\":{") + 9;
  expect_error(twice.insert(at, "\"a\":301,"), kCorrupt, "\"a\" is in model.vocab twice");
}

TEST(TokenizerJson, AHighIdCostsNoMoreThanItsTableEntry) {
  Json json = toy_tokenizer_json();
  json["added_tokens"] = {toy_added(TokenTable::kMaxId, "<far>")};
  Tokenizer tokenizer = parse_toy(json);
  EXPECT_EQ(tokenizer.encode("<far>"), std::vector<int32_t>{TokenTable::kMaxId});
  EXPECT_THROW(tokenizer.add_special_token("<further>"), Error);
}

TEST(TokenizerJson, BrokenMergesAreNamed) {
  const auto merges = [](Json value) { return [value](Json& j) { j["model"]["merges"] = value; }; };
  expect_bent(merges({"a b", "a z"}), kCorrupt, "model.merges[1] names \"az\"");
  expect_bent(merges({"xyz b"}), kCorrupt, "model.merges[0] names \"xyz\"");
  expect_bent(merges({"ab"}), kCorrupt, "model.merges[0]");
  expect_bent(merges({"a b c"}), kCorrupt, "model.merges[0]");
  expect_bent(merges({" b"}), kCorrupt, "model.merges[0]");
  expect_bent(merges({"a "}), kCorrupt, "model.merges[0]");
  expect_bent(merges({7}), kCorrupt, "model.merges[0]");
  expect_bent(merges(Json::array({Json::array({"a"})})), kCorrupt, "model.merges[0]");
  expect_bent(merges(Json::array({Json::array({"a", "b", "c"})})), kCorrupt, "model.merges[0]");
  expect_bent(merges(Json::array({Json::array({"a", 1})})), kCorrupt, "model.merges[0]");
  expect_bent(merges(Json::array({Json::array({"a", ""})})), kCorrupt, "model.merges[0]");
}

TEST(TokenizerJson, WhatWouldChangeIdsIsRefused) {
  expect_bent([](Json& j) { j["normalizer"] = {{"type", "NFC"}}; }, kUnsupported, "NFC");
  expect_bent(
      [](Json& j) {
        j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
      },
      kUnsupported, "normalizer");
  expect_bent([](Json& j) { j["decoder"] = {{"type", "Metaspace"}}; }, kUnsupported, "Metaspace");
  expect_bent([](Json& j) { j["model"]["type"] = "Unigram"; }, kUnsupported, "Unigram");
  expect_bent([](Json& j) { j["model"]["byte_fallback"] = true; }, kUnsupported, "byte_fallback");
  expect_bent([](Json& j) { j["model"]["dropout"] = 0.1; }, kUnsupported, "dropout");
  expect_bent([](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, kUnsupported, "end_of_word_suffix");
  expect_bent([](Json& j) { j["added_tokens"][0]["single_word"] = true; }, kUnsupported, "single_word");
  expect_bent([](Json& j) { j["pre_tokenizer"] = {{"type", "Metaspace"}}; }, kUnsupported, "Metaspace");
  expect_bent(
      [](Json& j) {
        j["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Digits"}});
      },
      kUnsupported, "after ByteLevel");
  expect_bent([](Json& j) { j["pre_tokenizer"]["pretokenizers"].erase(1); }, kUnsupported, "ByteLevel");
}

TEST(TokenizerJson, BrokenSplitsAreNamed) {
  const std::string step = "pre_tokenizer.pretokenizers[0]";
  const auto regex = [](const std::string& text) {
    return [text](Json& j) { j["pre_tokenizer"]["pretokenizers"][0] = toy_split(text); };
  };
  expect_bent(regex("(unclosed"), kCorrupt, step);
  expect_bent(regex("\\p{Klingon}"), kCorrupt, step);
  expect_bent(regex("\\w+"), kUnsupported, step);
  expect_bent([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Sideways"; }, kUnsupported,
              "Sideways");
  expect_bent([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = Json::object(); }, kCorrupt, step);
  expect_bent([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"] = "x"; }, kCorrupt, step);
  expect_bent([](Json& j) { j["pre_tokenizer"]["pretokenizers"][0].erase("behavior"); }, kCorrupt, "behavior");
  expect_bent(
      [](Json& j) {
        for (int i = 0; i < 100; ++i)
          j["pre_tokenizer"]["pretokenizers"].insert(j["pre_tokenizer"]["pretokenizers"].begin(), toy_split("x"));
      },
      kUnsupported, "more than 64");
}

TEST(TokenizerJson, AnyTruncationOrFlippedByteIsAnErrorOrATokenizer) {
  Json json = toy_tokenizer_json({"a b", "ab c"});
  json["added_tokens"] = {toy_added(300, "<s>")};
  const std::string good = json.dump();
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string bent = good;
    bent[i] = static_cast<char>(bent[i] ^ (1 << (i % 8)));
    for (const std::string& text : {bent, good.substr(0, i)}) {
      try {
        const Tokenizer tokenizer = Tokenizer::parse(text, "bent.json");
        tokenizer.decode(tokenizer.encode("abc <s> \xE4\xBD\xA0"));
      } catch (const Error& error) {
        EXPECT_NE(error.code(), ErrorCode::kInternal) << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace vl2
