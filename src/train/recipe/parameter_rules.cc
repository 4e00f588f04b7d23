#include "train/recipe/parameter_rules.h"

#include <algorithm>

#include "core/base/error.h"

namespace vl2::train {
namespace {

bool is_module(const std::string& entry) { return entry == "vision" || entry == "projector" || entry == "language"; }

void check_patterns(const Recipe& recipe, const char* key, const std::vector<std::string>& patterns,
                    const std::vector<WeightSpec>& schema) {
  for (const std::string& pattern : patterns) {
    if (is_module(pattern)) continue;
    const bool found = std::any_of(schema.begin(), schema.end(),
                                   [&](const WeightSpec& spec) { return matches_pattern(pattern, spec.name); });
    if (!found)
      fail(ErrorCode::kInvalidArgument,
           "{}: {}: \"{}\" matches no tensor of the model; a pattern is a whole name with * and ?, e.g. "
           "language.model.layers.0.*",
           recipe.name, key, pattern);
  }
}

bool any_match(const std::vector<std::string>& patterns, std::string_view name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return is_module(pattern) ? module_of(name) == pattern : matches_pattern(pattern, name);
  });
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = pattern.npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n]) && pattern[p] != '*') {
      ++p, ++n;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (star != pattern.npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string_view module_of(std::string_view tensor) {
  if (tensor.starts_with("vision.")) return "vision";
  if (tensor.starts_with("language.")) return "language";
  return "projector";
}

std::vector<ParameterRule> parameter_rules(const Recipe& recipe, const ModelConfig& config) {
  const std::vector<WeightSpec> schema = weight_schema(config);
  check_patterns(recipe, "freeze", recipe.freeze, schema);
  check_patterns(recipe, "no_decay", recipe.no_decay, schema);
  std::vector<ParameterRule> rules;
  for (const WeightSpec& spec : schema) {
    ParameterRule rule;
    rule.name = spec.name;
    const std::string_view module = module_of(spec.name);
    if (module == "vision") rule.lr_multiplier = recipe.vision_lr_multiplier;
    if (module == "projector") rule.lr_multiplier = recipe.projector_lr_multiplier;
    rule.decay = spec.shape.size() > 1 && !any_match(recipe.no_decay, spec.name);
    rule.trainable = recipe.stage != Stage::kLora && spec.role != WeightRole::kUnused &&
                     !spec.name.ends_with(".e_score_correction_bias") && !any_match(recipe.freeze, spec.name);
    rules.push_back(std::move(rule));
  }
  return rules;
}

}  // namespace vl2::train
