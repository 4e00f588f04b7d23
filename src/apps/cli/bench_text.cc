#include "apps/cli/bench_text.h"

namespace vl2::cli {

std::string what_was_done(const BenchResult& r) {
  if (r.work == "load") return "load, first token";
  if (r.work == "vision") return fmt::format("vision {} tiles", r.count);
  if (r.work == "prefill") return fmt::format("prefill {} tokens", r.count);
  return fmt::format("decode after {}{}", r.context, r.batch > 1 ? fmt::format(", {} seqs", r.batch) : "");
}

std::string time_text(const Spread& time) {
  const double scale = time.median < 1e-3 ? 1e6 : time.median < 1 ? 1e3 : 1;
  return fmt::format("{} {} ({} - {})", digits(time.median * scale),
                     scale == 1     ? "s"
                     : scale == 1e3 ? "ms"
                                    : "us",
                     digits(time.min * scale), digits(time.max * scale));
}

std::string digits(double value) { return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0); }

}  // namespace vl2::cli
