// What `vl2 drift` runs when nobody names a request.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/cli/model_files.h"
#include "engine/model/trace_case.h"

namespace vl2::cli {

// A few questions about two drawings of coloured shapes; seeded noise for a model without a tokenizer.
std::vector<TraceCase> built_in_cases(const ModelFiles& model);

}  // namespace vl2::cli
