// How much memory this process may still take, and took at most, from Linux's own books.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace vl2 {

// The least of MemAvailable and what each enclosing control group (v2 or v1) has left; pages of files count as free,
// since the kernel drops them first. Empty where nothing of this can be read. `root` is "/" but in tests.
std::optional<int64_t> available_memory(const std::filesystem::path& root = "/");

// The most that was resident so far, pages of mapped files among them; 0 where it is not known.
int64_t peak_memory();

}  // namespace vl2
