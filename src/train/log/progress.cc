#include "train/log/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace vl2::train {

std::string short_count(double value) {
  constexpr std::array kUnits = {"", "k", "M", "G", "T"};
  if (!std::isfinite(value)) return "?";
  size_t unit = 0;
  while (std::abs(value) >= 999.5 && unit + 1 < kUnits.size()) value /= 1000, ++unit;
  const bool decimals = std::abs(value) < 9.95 && (unit > 0 || value != std::floor(value));
  return fmt::format("{:.{}f}{}", value, decimals ? 1 : 0, kUnits[unit]);
}

std::string short_time(double seconds) {
  constexpr double kLongest = 1e9;
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto s = static_cast<int64_t>(std::llround(std::min(seconds, kLongest)));
  const int64_t minutes = s / 60, hours = minutes / 60;
  if (minutes == 0) return fmt::format("{} s", s);
  if (hours == 0) return fmt::format("{} min {:02} s", minutes, s % 60);
  if (hours < 24) return fmt::format("{} h {:02} min", hours, minutes % 60);
  return fmt::format("{} d {:02} h", hours / 24, hours % 24);
}

std::string progress_text(const StepProgress& p) {
  std::string text = fmt::format("step {}/{}  loss {:.4g}  lr {:.1e}", p.step, p.total, p.loss, p.learning_rate);
  if (p.tokens_per_second > 0) text += fmt::format("  {} tok/s", short_count(p.tokens_per_second));
  if (p.tiles_per_second > 0) text += fmt::format("  {} tiles/s", short_count(p.tiles_per_second));
  if (p.waiting >= 0.05) text += fmt::format("  waiting {:.0f}%", 100 * p.waiting);
  if (p.skipped > 0) text += fmt::format("  skipped {}", p.skipped);
  if (p.seconds_per_step > 0 && p.step < p.total)
    text += "  left " + short_time(p.seconds_per_step * static_cast<double>(p.total - p.step));
  return text;
}

}  // namespace vl2::train
