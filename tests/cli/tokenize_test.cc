#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

std::vector<json> lines_of(const std::string& text) {
  std::vector<json> lines;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
    lines.push_back(json::parse(text.substr(begin, end - begin)));
  EXPECT_EQ(begin, text.size()) << "the last line has no newline";
  return lines;
}

struct Case {
  std::string cases, tokenizer;  // under the golden data
};

class TokenizeGolden : public testing::TestWithParam<Case> {};

TEST_P(TokenizeGolden, EveryLineIsWhatTheReferenceGives) {
  VL2_NEED_SHARED(shared);
  const json golden = json::parse(read_file(shared / "golden/tokenizer" / GetParam().cases));
  const std::string tokenizer = (shared / GetParam().tokenizer).string();
  std::string texts, ids, more_ids;
  for (const json& c : golden["encode"]) {
    texts += c["text"].dump() + "\n";
    ids += c["ids"].dump() + "\n";
  }
  const Outcome encoded = run_vl2({"tokenize", "--tokenizer", tokenizer}, texts);
  ASSERT_EQ(encoded.exit_code, 0) << encoded.err;
  const std::vector<json> got = lines_of(encoded.out);
  ASSERT_EQ(got.size(), golden["encode"].size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], golden["encode"][i]["ids"]) << golden["encode"][i]["text"];

  const Outcome decoded = run_vl2({"tokenize", "--tokenizer", tokenizer, "--decode"}, ids);
  ASSERT_EQ(decoded.exit_code, 0) << decoded.err;
  const std::vector<json> back = lines_of(decoded.out);
  for (size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i], golden["encode"][i]["decoded"]);

  if (!golden.contains("decode")) return;
  for (const json& c : golden["decode"]) more_ids += c["ids"].dump() + "\n";
  for (const bool skip : {false, true}) {
    std::vector<std::string> arguments = {"tokenize", "--tokenizer", tokenizer, "--decode"};
    if (skip) arguments.emplace_back("--skip-special");
    const Outcome outcome = run_vl2(arguments, more_ids);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const std::vector<json> texts_back = lines_of(outcome.out);
    ASSERT_EQ(texts_back.size(), golden["decode"].size());
    for (size_t i = 0; i < texts_back.size(); ++i)
      EXPECT_EQ(texts_back[i], golden["decode"][i][skip ? "text_skip_special" : "text"]) << golden["decode"][i]["ids"];
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizeGolden,
                         testing::Values(Case{"tokenizer_cases.json", "tokenizers/tokenizer_vl2_129k.json"},
                                         Case{"tiny_tokenizer_cases.json", "golden/tokenizer/tiny_tokenizer.json"}),
                         [](const auto& test) { return test.index == 0 ? std::string("Vl2") : std::string("Tiny"); });

TEST(Tokenize, WithoutAModelTheOneOfTheEnvironmentIsUsed) {
  const Outcome outcome = run_vl2({"tokenize"}, "\"<image>ab\"\n\"\"\n");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "[446,67,68]\n[]\n");
  EXPECT_EQ(
      run_vl2({"tokenize", "-m", std::string(source_dir()) + "/tests/goldens/nano/model", "--decode"}, "[67, 68]\n")
          .out,
      "\"ab\"\n");
}

TEST(Tokenize, PiecesShowWhatEachIdStandsFor) {
  EXPECT_EQ(run_vl2({"tokenize", "--pieces"}, "\"a<image>\"").out, "[[67,\"a\"],[446,\"<image>\"]]\n");
}

TEST(Tokenize, ABadLineIsNamedAndTheLinesBeforeItAreAnswered) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> bad = {
      {"\"a\"\nnot json\n", {"tokenize"}}, {"\"a\"\n[1]\n", {"tokenize"}}, {"\"a\"\n\n", {"tokenize"}}};
  for (const auto& [input, arguments] : bad) {
    const Outcome outcome = run_vl2(arguments, input);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(outcome.out, "[67]\n");
    EXPECT_NE(outcome.err.find("vl2 tokenize: line 2 of stdin"), std::string::npos) << outcome.err;
  }
  for (const std::string input : {"\"a\"\n", "[1.5]\n", "[-1]\n", "[99999999999]\n", "{}\n"})
    expect_failure(run_vl2({"tokenize", "--decode"}, input), "tokenize", {"line 1 of stdin", "JSON array"});
}

TEST(Tokenize, ABrokenTokenizerIsAnError) {
  const TempFolder temp;
  const std::vector<std::pair<std::string, std::string>> broken = {
      {"not json", "{\"model\": "},
      {"no model", "{}"},
      {"another algorithm", R"({"model": {"type": "WordPiece", "vocab": {"a": 0}}})"},
      {"absurd id", R"({"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}})"},
      {"an id twice", R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})"}};
  for (const auto& [what, text] : broken) {
    SCOPED_TRACE(what);
    write_file_atomic(temp / "tokenizer.json", text);
    expect_failure(run_vl2({"tokenize", "--tokenizer", (temp / "tokenizer.json").string()}, "\"a\"\n"), "tokenize",
                   {"tokenizer.json"});
  }
  expect_failure(run_vl2({"tokenize", "--tokenizer", (temp / "absent.json").string()}, "\"a\"\n"), "tokenize",
                 {"absent.json"});
}

}  // namespace
}  // namespace vl2::cli_test
