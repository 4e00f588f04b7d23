// Samples -> micro-batch. Pure function: any thread.
#pragma once

#include <vector>

#include "train/input/micro_batch.h"
#include "train/input/sample.h"

namespace vl2::train {

// rows: of samples with pixels; a row without samples is left out. Takes the pixels, copies nothing else large.
MicroBatch assemble(std::vector<std::vector<Sample>> rows);

}  // namespace vl2::train
