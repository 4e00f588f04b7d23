// A training run from its recipe to its last checkpoint.
//
//   OUTPUT/recipe.json   what was run     log.jsonl    a line every log_every steps      events/  the same for
//   TensorBoard OUTPUT/step-000123/  a checkpoint     latest       a link to the newest              samples/ answers
//   while training OUTPUT/left_out.txt  records that were not learnt from, and why
//
// A run whose output folder has a checkpoint goes on from it; losses are then those of a run that was never stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "train/log/progress.h"
#include "train/recipe/recipe.h"

namespace vl2::train {

// What the caller is told, and asks for. All are called on the thread that trains; any may be empty.
struct RunHooks {
  std::function<void(const std::string& line)> say;            // for people: what is loaded, saved, left out
  std::function<void(const StepProgress& progress)> progress;  // after every step
  std::function<bool()> stop;                                  // asked between steps: write a checkpoint and return
};

struct RunSummary {
  int64_t first_step = 0, last_step = 0, total_steps = 0;
  int64_t skipped = 0;      // steps whose loss or gradient was not finite
  double loss = 0;          // of the last step
  double waited_share = 0;  // of the time, for input
  bool stopped = false;     // by RunHooks::stop
  std::string checkpoint;   // the folder written last
};

// Memory this recipe will need, one line a part, with what the machine has; kOutOfMemory when that is less.
std::string plan_memory(const Recipe& recipe);

// kInvalidArgument: max_bad_steps in a row without a finite loss or gradient, with the records of the last; data or
// recipe that cannot be used. kIo. Checkpoints written until then stay.
RunSummary run_training(const Recipe& recipe, const RunHooks& hooks);

}  // namespace vl2::train
