// The line that shows how training gets on, as pure functions of numbers.
#pragma once

#include <cstdint>
#include <string>

namespace vl2::train {

struct StepProgress {
  int64_t step = 0, total = 0;  // done, in all
  double loss = 0;              // may be no number
  double learning_rate = 0;
  double tokens_per_second = 0, tiles_per_second = 0;
  double seconds_per_step = 0;  // a running mean; 0: not known yet
  double waiting = 0;           // share of the time spent waiting for input
  int64_t skipped = 0;          // steps whose loss or gradient was not finite
};

// "step 120/5000  loss 2.314  lr 9.6e-04  8.1k tok/s  42 tiles/s  left 1 h 04 min", with " waiting 12%" from 5% on and
// " skipped 3" where any was.
std::string progress_text(const StepProgress& progress);

std::string short_count(double value);   // "8.1k", "2.5M", "950"
std::string short_time(double seconds);  // "42 s", "5 min 10 s", "1 h 04 min", "3 d 02 h"

}  // namespace vl2::train
