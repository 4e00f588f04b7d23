// What `vl2 trace` and `vl2 drift` run: conversations as cases of one sequence.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/cli/model_files.h"
#include "apps/cli/options.h"
#include "core/processor/multimodal_prompt.h"
#include "engine/model/trace_case.h"

namespace vl2::cli {

TraceCase case_of_prompt(const MultimodalPrompt& prompt);

// Of all tiles of all pictures, as the model takes them.
std::vector<float> normalized_pixels(const MultimodalPrompt& prompt);

// Of a conversation file as `vl2 prompt` takes it; "-" reads stdin. Errors of its parts and of check_request.
TraceCase case_of_request(const std::string& request, const ModelFiles& model, const PictureOptions& pictures);

// kOutOfMemory: the model with this case and so many new tokens needs more than there is.
void check_case_fits(const ModelFiles& model, const TraceCase& c, const ComputeOptions& compute, int64_t new_tokens);

}  // namespace vl2::cli
