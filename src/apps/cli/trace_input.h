// What `vl2 trace` and `vl2 drift` run: conversations as cases of one sequence.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "apps/cli/model_files.h"
#include "apps/cli/options.h"
#include "core/processor/multimodal_prompt.h"
#include "engine/model/trace_case.h"
#include "engine/runtime/placement.h"

namespace vl2::cli {

TraceCase case_of_prompt(const MultimodalPrompt& prompt);

// Of all tiles of all pictures, as the model takes them.
std::vector<float> normalized_pixels(const MultimodalPrompt& prompt);

// Of a conversation file as `vl2 prompt` takes it; "-" reads stdin. Errors of its parts and of check_request.
TraceCase case_of_request(const std::string& request, const ModelFiles& model, const PictureOptions& pictures);

// Where the model runs with the largest of these cases and so many new tokens. kOutOfMemory: there is not enough.
Placement place_cases(const ModelFiles& model, std::span<const TraceCase> cases, const ComputeOptions& compute,
                      int64_t new_tokens);

}  // namespace vl2::cli
