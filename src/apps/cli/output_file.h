// Finds out before minutes of work whether a file can be written at their end.
#pragma once

#include <filesystem>

namespace vl2::cli {

// The folder exists and takes new files, and the target is absent or an ordinary file. kIo, kInvalidArgument.
// Leaves nothing behind.
void check_writable(const std::filesystem::path& file);

// The same, and its name ends in an extension we can encode. kInvalidArgument.
void check_writable_picture(const std::filesystem::path& file);

}  // namespace vl2::cli
