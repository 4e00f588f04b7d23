// Which tensors a recipe trains, with which learning rate and decay.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/model_spec/weight_schema.h"
#include "train/recipe/recipe.h"

namespace vl2::train {

// '*' stands for any characters, '?' for one; the whole name must match.
bool matches_pattern(std::string_view pattern, std::string_view name);

// "vision", "projector" (with newline and separator) or "language".
std::string_view module_of(std::string_view tensor);

struct ParameterRule {
  std::string name;
  double lr_multiplier = 1;
  bool decay = true;  // not for 1-D tensors and what no_decay matches
  bool trainable = true;
};

// One for each tensor of the weight schema, in its order. Never trained by gradient: what is frozen, the expert bias,
// unused tensors, and in the stage lora everything (adapters are tensors of their own). kInvalidArgument: a pattern of
// freeze or no_decay that matches no tensor of this model.
std::vector<ParameterRule> parameter_rules(const Recipe& recipe, const ModelConfig& config);

}  // namespace vl2::train
