// Options of a command that may also stand in the environment and in a file: flags > variables > file > defaults.
//
// CLI11 reads, checks and converts every value, wherever it stands, as if it were on the command line.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace vl2::cli {

struct Setting {
  std::string name;                 // of the option, without dashes
  std::vector<std::string> values;  // as they would stand on the command line; the default where nobody said anything
  std::string source;               // "default", "--port", "VL2_SERVE_PORT", "serve.json"
  bool flag = false, number = false, list = false;
};

struct SettingsSource {
  std::string prefix;                  // of variables: "VL2_SERVE_"
  std::string config;                  // the option that names the file: "config"
  std::vector<std::string> elsewhere;  // options that count on the command line alone
  std::vector<std::pair<std::string, std::string>>
      aliases;  // another variable of an option: {"api-key", "VL2_API_KEY"}
};

// Remembers the defaults of the options there are. To be called before the command line is parsed.
void note_defaults(CLI::App& app);

// Fills in what the command line leaves open, and tells where everything comes from, in the order of the options.
// Empty variables count as absent; what excludes an option that counts more is left out. UsageError: a variable or a
// key that is no option, with the nearest that is; a value its option does not take. kNotFound, kCorrupt: the file.
std::vector<Setting> apply_settings(CLI::App& app, const SettingsSource& source);

// One line each, or {name: {"value", "source"}}. Values of `secret` options are counted and not shown.
std::string settings_text(const std::vector<Setting>& settings, const std::string& secret);
nlohmann::ordered_json settings_json(const std::vector<Setting>& settings, const std::string& secret);

}  // namespace vl2::cli
