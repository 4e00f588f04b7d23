// Where the separate program vl2-train is: it needs libtorch, which this one does not link.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

namespace vl2::cli {

// An executable file `vl2-train` in `beside`, else in the folders of `path` (colons between them; an empty one is
// passed over).
std::optional<std::filesystem::path> find_train_program(const std::filesystem::path& beside, std::string_view path);

}  // namespace vl2::cli
