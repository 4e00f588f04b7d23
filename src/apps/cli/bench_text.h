// Numbers of a benchmark as people read them.
#pragma once

#include <string>

#include "apps/cli/bench_run.h"

namespace vl2::cli {

std::string what_was_done(const BenchResult& result);  // "decode after 1024, 8 seqs"
std::string time_text(const Spread& time);             // "31.4 ms (30.9 - 33.0)"
std::string digits(double value);                      // the three that matter: "0.12", "12.3", "1234"

}  // namespace vl2::cli
