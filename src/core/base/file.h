// Whole-file helpers with the house's rules: clear errors, atomic writes.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace vl2 {

// At most max_bytes; a larger file is kInvalidArgument, a missing one kNotFound.
std::string read_file(const std::filesystem::path& path, size_t max_bytes = size_t{1} << 30);

// The same for a path without links whose place was looked at: kIo where a link stands in it by now, or the file was
// moved, so that nobody who may write beside it can put another one there in between.
std::string read_unmoved_file(const std::filesystem::path& canonical, size_t max_bytes);

// Temporary file beside the target, fsync, rename: the old file stays until the new one is whole. kIo on failure.
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

// The same for streamed content: write(sink) may call sink many times.
using ByteSink = std::function<void(std::span<const std::byte>)>;
void write_file_atomic(const std::filesystem::path& path, const std::function<void(const ByteSink&)>& write);

std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace vl2
