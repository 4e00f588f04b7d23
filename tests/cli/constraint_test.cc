// Answers held to a form, as a user asks for them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

const std::string kPicture = std::string(source_dir()) + "/examples/5-wide.png";
const std::string kQuestion = "What colour is the square?";

Outcome ask(std::vector<std::string> options) {
  options.insert(options.begin(), {"ask", "-i", kPicture, kQuestion});
  return run_vl2(options);
}

TEST(AskConstrained, TheAnswerHasTheFormThatWasAskedFor) {
  EXPECT_EQ(ask({"--choices", "a sphinx"}).out, "a sphinx\n");
  const std::string choice = ask({"--choices", "left,right"}).out;
  EXPECT_TRUE(choice == "left\n" || choice == "right\n") << choice;
  EXPECT_EQ(ask({"--regex", "[0-9]{3}-(ab){2}"}).out.substr(3), "-abab\n");
  const TempFolder folder;
  write_file_atomic(
      folder.path() / "schema.json",
      R"({"type":"object","properties":{"sure":{"type":"boolean"},"n":{"type":"integer","minimum":3,"maximum":5}},
                        "required":["sure","n"],"additionalProperties":false})");
  const Outcome outcome = ask({"--json-schema", (folder.path() / "schema.json").string()});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const json value = json::parse(outcome.out, nullptr, false);
  ASSERT_TRUE(value.is_object() && value.size() == 2) << outcome.out;
  EXPECT_TRUE(value["sure"].is_boolean() && value["n"] >= 3 && value["n"] <= 5) << outcome.out;
  EXPECT_EQ(ask({"--grounding"}).out, ask({}).out) << "an answer without boxes is left alone";
}

TEST(AskConstrained, FormsThatCannotBeAreErrorsBeforeTheModelIsLoaded) {
  const Outcome two = ask({"--choices", "a,b", "--grounding"});
  EXPECT_EQ(two.exit_code, 2);
  EXPECT_NE(two.err.find("one of --json-schema"), std::string::npos) << two.err;
  const Outcome regex = ask({"--regex", "a(?=b)"});
  EXPECT_EQ(regex.exit_code, 1);
  EXPECT_NE(regex.err.find("at byte 2"), std::string::npos) << regex.err;
  EXPECT_EQ(ask({"--json-schema", "/no/such/file"}).exit_code, 1);
}

}  // namespace
}  // namespace vl2::cli_test
