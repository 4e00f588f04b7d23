#include "core/base/format_bytes.h"

#include <fmt/format.h>

namespace vl2 {

std::string format_bytes(int64_t bytes) {
  constexpr double kKiB = 1024;
  const auto b = static_cast<double>(bytes);
  if (b < kKiB * kKiB) return fmt::format("{:.1f} KiB", b / kKiB);
  if (b < kKiB * kKiB * kKiB) return fmt::format("{:.1f} MiB", b / (kKiB * kKiB));
  return fmt::format("{:.2f} GiB", b / (kKiB * kKiB * kKiB));
}

}  // namespace vl2
