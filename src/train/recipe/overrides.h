// "key.path=value" of the command line, put into a recipe before it is read.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace vl2::train {

// Objects on the way are made where they are absent; a list's element is named by its number, and the number behind the
// last adds one. The value is JSON if it can be read as such, and a string otherwise. An empty value removes the key.
// kInvalidArgument: no "=", an empty name in the path, a path through something that is neither object nor list.
void apply_override(nlohmann::json& root, const std::string& text, const std::string& where);

}  // namespace vl2::train
