// From what a user writes after -m to a folder with a model.
#pragma once

#include <filesystem>
#include <string>

namespace vl2::cli {

// A folder; "ORG/NAME" or "ORG/NAME@REVISION" if the Hugging Face cache of this machine has it; or nothing: what
// VL2_MODEL names so, else the small model that ships with the program. kNotFound, kInvalidArgument: what was looked
// for, where, and what to do.
std::filesystem::path find_model(const std::string& model);

}  // namespace vl2::cli
