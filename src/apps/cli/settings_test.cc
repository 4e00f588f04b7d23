#include "apps/cli/settings.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::cli {
namespace {

// Variables of this test alone.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

class Settings : public ::testing::Test {
 protected:
  Settings() {
    app_.add_option("-p,--port", port_)->type_name("N")->check(CLI::Range(0, 65535).description(""));
    app_.add_option("--host", host_)->type_name("ADDRESS");
    app_.add_option("--key", keys_)->type_name("KEY")->allow_extra_args(false);
    app_.add_option("--origins", origins_)->type_name("LIST")->delimiter(',')->allow_extra_args(false);
    app_.add_flag("--quiet", quiet_);
    app_.add_flag("--dry-run", dry_run_);
    app_.add_option("--config", config_)->type_name("FILE");
    note_defaults(app_);
  }
  std::map<std::string, Setting> resolve(std::vector<std::string> arguments = {}) {
    std::reverse(arguments.begin(), arguments.end());
    app_.parse(arguments);
    settings_ = apply_settings(app_, {"VL2_T_", "config", {"dry-run"}, {{"key", "VL2_OLD_KEY"}}});
    std::map<std::string, Setting> result;
    for (const Setting& one : settings_) result[one.name] = one;
    return result;
  }
  std::string file(const std::string& text) {
    const auto path = folder_ / "serve.json";
    write_file_atomic(path, text);
    return path.string();
  }
  std::string complaint(const std::vector<std::string>& arguments = {}) {
    try {
      resolve(arguments);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "nothing";
  }
  void expect_complaint(const std::string& text, const std::vector<std::string>& words) {
    const std::string said = complaint({"--config", file(text)});
    for (const std::string& word : words) EXPECT_NE(said.find(word), std::string::npos) << said << " for " << text;
  }

  TempFolder folder_;
  CLI::App app_;
  int port_ = 8080;
  std::string host_ = "127.0.0.1", config_;
  std::vector<std::string> keys_, origins_;
  bool quiet_ = false, dry_run_ = false;
  std::vector<Setting> settings_;
};

TEST_F(Settings, AreDefaultsWhereNobodySaysAnything) {
  const auto all = resolve();
  EXPECT_EQ(all.size(), 5u);
  EXPECT_EQ(all.at("port").values, std::vector<std::string>{"8080"});
  EXPECT_EQ(all.at("port").source, "default");
  EXPECT_EQ(all.at("quiet").values, std::vector<std::string>{"false"});
  EXPECT_TRUE(all.at("key").values.empty());
  EXPECT_EQ(port_, 8080);
}

TEST_F(Settings, ComeFromAFile) {
  const std::string path =
      file(R"({"_note": "ours", "port": 9000, "host": "::1", "key": ["a", "b"], "origins": "x,y", "quiet": true})");
  const auto all = resolve({"--config", path});
  EXPECT_EQ(port_, 9000);
  EXPECT_EQ(host_, "::1");
  EXPECT_EQ(keys_, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(origins_, (std::vector<std::string>{"x", "y"}));
  EXPECT_TRUE(quiet_);
  for (const auto& [name, setting] : all) EXPECT_EQ(setting.source, path) << name;
}

TEST_F(Settings, OfAFileGiveWayToVariablesAndThoseToFlags) {
  const std::string path = file(R"({"port": 1, "host": "file", "quiet": true, "key": "file"})");
  const Variable config("VL2_T_CONFIG", path.c_str()), port("VL2_T_PORT", "2"), host("VL2_T_HOST", "variable"),
      quiet("VL2_T_QUIET", "false"), empty("VL2_T_ORIGINS", "");
  const auto all = resolve({"-p", "3"});
  EXPECT_EQ(port_, 3);
  EXPECT_EQ(all.at("port").source, "--port");
  EXPECT_EQ(host_, "variable");
  EXPECT_EQ(all.at("host").source, "VL2_T_HOST");
  EXPECT_FALSE(quiet_);
  EXPECT_EQ(all.at("quiet").source, "VL2_T_QUIET");
  EXPECT_EQ(keys_, std::vector<std::string>{"file"});
  EXPECT_EQ(all.at("key").source, path);
  EXPECT_EQ(all.at("origins").source, "default");
}

TEST_F(Settings, MayHaveAnotherVariable) {
  const Variable origins("VL2_T_ORIGINS", "a,b"), old("VL2_OLD_KEY", "old");
  EXPECT_EQ(resolve().at("key").source, "VL2_OLD_KEY");
  EXPECT_EQ(keys_, std::vector<std::string>{"old"});
  EXPECT_EQ(origins_, (std::vector<std::string>{"a", "b"}));
  const Variable key("VL2_T_KEY", "new");
  app_.clear();
  keys_.clear();
  EXPECT_EQ(resolve().at("key").source, "VL2_T_KEY");
}

TEST_F(Settings, NobodyKnowsAreErrorsThatNameTheNearest) {
  expect_complaint(R"({"prot": 9000})", {"serve.json", "\"prot\"", "did you mean port?"});
  expect_complaint(R"({"dry-run": true})", {"\"dry-run\" is no option that may stand here"});
  expect_complaint(R"({"config": "x"})", {"\"config\""});
  expect_complaint(R"({"p": 1})", {"\"p\""});
  const Variable wrong("VL2_T_PROT", "1");
  EXPECT_NE(complaint().find("VL2_T_PROT is no option; did you mean VL2_T_PORT?"), std::string::npos) << complaint();
}

TEST_F(Settings, HaveTheTypesOfTheirOptions) {
  expect_complaint(R"({"port": "9000"})", {"serve.json: port", "a whole number"});
  expect_complaint(R"({"port": 1.5})", {"a whole number"});
  expect_complaint(R"({"port": 70000})", {"serve.json: port is \"70000\"", "65535"});
  expect_complaint(R"({"port": null})", {"a whole number"});
  expect_complaint(R"({"host": 5})", {"host", "a text"});
  expect_complaint(R"({"host": ["a", "b"]})", {"a text"});
  expect_complaint(R"({"quiet": "yes"})", {"true or false"});
  expect_complaint(R"({"key": [1]})", {"a list of texts"});
  expect_complaint(R"({"key": []})", {"a list of texts"});
  expect_complaint(R"({"port": 1, "port": 2})", {"serve.json"});
  expect_complaint("[1]", {"no JSON object"});
  expect_complaint("{", {"serve.json"});
  EXPECT_NE(complaint({"--config", (folder_ / "none").string()}).find("none"), std::string::npos);
}

TEST_F(Settings, OfVariablesAreCheckedAsFlagsAre) {
  const Variable port("VL2_T_PORT", "http");
  const std::string said = complaint();
  EXPECT_NE(said.find("the variable VL2_T_PORT is \"http\": "), std::string::npos) << said;
  const Variable quiet("VL2_T_QUIET", "perhaps");
  app_.clear();
  ::setenv("VL2_T_PORT", "1", 1);
  EXPECT_NE(complaint().find("VL2_T_QUIET"), std::string::npos);
}

TEST_F(Settings, ThatExcludeEachOtherDoNotOverruleWhatCountsMore) {
  std::string place;
  app_.add_option("--place", place)->type_name("PLACE")->excludes("--host");
  const std::string path = file(R"({"place": "here"})");
  const auto all = resolve({"--config", path, "--host", "there"});
  EXPECT_EQ(all.at("place").source, "default");
  EXPECT_EQ(place, "");
  app_.clear();
  expect_complaint(R"({"place": "here", "host": "there"})", {"host and place do not go together"});
}

TEST_F(Settings, ArePrintedWithoutSecrets) {
  const Variable host("VL2_T_HOST", "there");
  resolve({"--key", "secret-1", "--key", "secret-2", "--port", "5"});
  const std::string text = settings_text(settings_, "key");
  EXPECT_EQ(text.find("secret"), std::string::npos);
  EXPECT_NE(text.find("(2 hidden)"), std::string::npos);
  const nlohmann::ordered_json all = settings_json(settings_, "key");
  EXPECT_EQ(all.at("port").dump(), R"({"value":5,"source":"--port"})");
  EXPECT_EQ(all.at("host").dump(), R"({"value":"there","source":"VL2_T_HOST"})");
  EXPECT_EQ(all.at("key").at("value"), "(2 hidden)");
  EXPECT_EQ(all.at("origins").dump(), R"({"value":[],"source":"default"})");
  EXPECT_EQ(all.at("quiet").dump(), R"({"value":false,"source":"default"})");
}

}  // namespace
}  // namespace vl2::cli
