#include "apps/cli/settings.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/commands.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/nearest_name.h"

namespace vl2::cli {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kMostConfigBytes = size_t{1} << 20;

std::string name_of(const CLI::Option& option) {
  return option.get_lnames().empty() ? std::string() : option.get_lnames().front();
}

std::string variable_of(const SettingsSource& source, const std::string& name) {
  std::string result = source.prefix;
  for (const char c : name) result += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return result;
}

bool is_flag(const CLI::Option& option) { return option.get_expected_max() == 0; }
bool is_number(const CLI::Option& option) { return option.get_type_name() == "N"; }
bool is_list(const CLI::Option& option) { return option.get_expected_max() > 1; }

// Those that may stand elsewhere too.
std::vector<CLI::Option*> options_of(CLI::App& app, const SettingsSource& source) {
  std::vector<CLI::Option*> result;
  for (CLI::Option* option : app.get_options()) {
    const std::string name = name_of(*option);
    if (name.empty() || name == "help" || name == source.config) continue;
    if (std::find(source.elsewhere.begin(), source.elsewhere.end(), name) == source.elsewhere.end())
      result.push_back(option);
  }
  return result;
}

std::string did_you_mean(const std::string& nearest) {
  return nearest.empty() ? "vl2 serve --help lists the options" : fmt::format("did you mean {}?", nearest);
}

// What CLI11 says of a value begins with the option's name, which is not what stands there.
void give(CLI::Option& option, const std::vector<std::string>& values, const std::string& where) {
  try {
    option.clear();
    for (const std::string& value : values) option.add_result(value);
    option.run_callback();
  } catch (const CLI::ParseError& error) {
    std::string text = error.what();
    for (const std::string& lead : {option.get_name() + ": ", option.get_name()})
      if (text.starts_with(lead)) {
        text.erase(0, lead.size());
        break;
      }
    throw UsageError(fmt::format("{} is \"{}\": {}", where, fmt::join(values, ","), text));
  }
}

std::optional<std::string> variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

// Misspelled ones would otherwise do nothing.
void check_variables(const SettingsSource& source, const std::vector<std::string>& known) {
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    std::string name = *entry;
    name.resize(std::min(name.find('='), name.size()));
    if (!name.starts_with(source.prefix) || std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw UsageError(fmt::format("the variable {} is no option; {}", name, did_you_mean(nearest_name(name, known))));
  }
}

std::vector<std::string> values_of(const CLI::Option& option, const json& value, const JsonObject& file) {
  const std::string name = name_of(option);
  const auto text = [](const json& one) { return one.is_string() && !one.get_ref<const std::string&>().empty(); };
  if (is_flag(option)) {
    if (!value.is_boolean()) file.reject(name, "true or false");
    return {value.get<bool>() ? "true" : "false"};
  }
  if (is_number(option)) {
    if (!value.is_number_integer()) file.reject(name, "a whole number");
    return {value.dump()};
  }
  if (!is_list(option)) {
    if (!text(value)) file.reject(name, "a text");
    return {value.get<std::string>()};
  }
  if (text(value)) return {value.get<std::string>()};
  if (!value.is_array() || value.empty() || !std::all_of(value.begin(), value.end(), text))
    file.reject(name, "a text or a list of texts");
  return value.get<std::vector<std::string>>();
}

json read_config(const std::string& path, const std::vector<std::string>& known) {
  json config = parse_json(read_file(path, kMostConfigBytes), path);
  if (!config.is_object()) fail(ErrorCode::kCorrupt, "{} is no JSON object of options", path);
  for (const auto& [key, unused] : config.items()) {
    if (key.starts_with('_') || std::find(known.begin(), known.end(), key) != known.end()) continue;  // "_note"
    throw UsageError(fmt::format("{}: \"{}\" is no option that may stand here; {}", path, key,
                                 did_you_mean(nearest_name(key, known))));
  }
  return config;
}

// The file itself is named by a flag or a variable.
std::string config_path(CLI::App& app, const SettingsSource& source) {
  CLI::Option* option = app.get_option("--" + source.config);
  if (option->count() > 0) return option->as<std::string>();
  return variable(variable_of(source, source.config)).value_or("");
}

class Resolver {
 public:
  Resolver(CLI::App& app, const SettingsSource& source) : source_(source), options_(options_of(app, source)) {
    std::vector<std::string> variables = {variable_of(source, source.config)}, names;
    for (const CLI::Option* option : options_) {
      names.push_back(name_of(*option));
      variables.push_back(variable_of(source, names.back()));
    }
    check_variables(source, variables);
    path_ = config_path(app, source);
    config_ = path_.empty() ? json::object() : read_config(path_, names);
  }

  std::vector<Setting> apply() {
    for (CLI::Option* option : options_)
      if (option->count() > 0) from_[option] = {Rank::kFlag, "--" + name_of(*option)};
    for (CLI::Option* option : options_) take_variable(*option);
    for (CLI::Option* option : options_) take_entry(*option);
    std::vector<Setting> settings;
    for (const CLI::Option* option : options_) settings.push_back(setting_of(*option));
    return settings;
  }

 private:
  enum class Rank { kFlag, kVariable, kFile };
  struct From {
    Rank rank;
    std::string source;
  };

  // False: said already, or something that excludes it was, by what counts more.
  bool is_open(const CLI::Option& option, Rank rank, const std::string& source) const {
    if (from_.contains(&option)) return false;
    for (const CLI::Option* other : option.get_excludes()) {
      const auto at = from_.find(other);
      if (at == from_.end()) continue;
      if (at->second.rank != rank) return false;
      throw UsageError(fmt::format("{}: {} and {} do not go together", source, name_of(*other), name_of(option)));
    }
    return true;
  }

  void take_variable(CLI::Option& option) {
    const std::string name = name_of(option);
    std::vector<std::string> variables = {variable_of(source_, name)};
    for (const auto& [of, alias] : source_.aliases)
      if (of == name) variables.push_back(alias);
    for (const std::string& one : variables) {
      const auto value = variable(one);
      if (!value || !is_open(option, Rank::kVariable, one)) continue;
      give(option, {*value}, "the variable " + one);
      from_[&option] = {Rank::kVariable, one};
    }
  }

  void take_entry(CLI::Option& option) {
    const std::string name = name_of(option);
    const auto at = config_.find(name);
    if (at == config_.end()) return;
    const std::vector<std::string> values = values_of(option, *at, JsonObject(config_, path_));
    if (!is_open(option, Rank::kFile, path_)) return;
    give(option, values, fmt::format("{}: {}", path_, name));
    from_[&option] = {Rank::kFile, path_};
  }

  Setting setting_of(const CLI::Option& option) const {
    Setting setting;
    setting.name = name_of(option);
    setting.flag = is_flag(option);
    setting.number = is_number(option);
    setting.list = is_list(option);
    const auto from = from_.find(&option);
    setting.source = from != from_.end() ? from->second.source : "default";
    if (option.count() > 0)
      setting.values = option.results();
    else if (setting.flag)
      setting.values = {"false"};
    else if (!setting.list && !option.get_default_str().empty())
      setting.values = {option.get_default_str()};
    return setting;
  }

  const SettingsSource& source_;
  const std::vector<CLI::Option*> options_;
  std::string path_;
  json config_;
  std::map<const CLI::Option*, From> from_;
};

std::string hidden(size_t count) { return fmt::format("({} hidden)", count); }

}  // namespace

void note_defaults(CLI::App& app) {
  for (CLI::Option* option : app.get_options())
    if (!is_list(*option) && option->get_default_str().empty()) option->capture_default_str();
}

std::vector<Setting> apply_settings(CLI::App& app, const SettingsSource& source) {
  return Resolver(app, source).apply();
}

std::string settings_text(const std::vector<Setting>& settings, const std::string& secret) {
  std::string text;
  for (const Setting& one : settings) {
    const bool hide = one.name == secret && !one.values.empty();
    text += fmt::format("{:<24} {:<32} {}\n", one.name,
                        hide ? hidden(one.values.size()) : fmt::format("{}", fmt::join(one.values, ",")), one.source);
  }
  return text;
}

ordered_json settings_json(const std::vector<Setting>& settings, const std::string& secret) {
  ordered_json all = ordered_json::object();
  for (const Setting& one : settings) {
    ordered_json value = nullptr;
    if (one.name == secret) {
      if (!one.values.empty()) value = hidden(one.values.size());
    } else if (one.list) {
      value = one.values;
    } else if (!one.values.empty()) {
      const std::string& text = one.values.front();
      value = one.flag ? ordered_json(text == "true") : ordered_json(text);
      if (one.number && ordered_json::accept(text)) value = ordered_json::parse(text);
    }
    all[one.name] = {{"value", std::move(value)}, {"source", one.source}};
  }
  return all;
}

}  // namespace vl2::cli
