// Whether a request can run on this engine at all, decided before it is queued.
#pragma once

#include "core/model_spec/model_config.h"
#include "engine/runtime/request.h"

namespace vl2 {

// kInvalidArgument: an empty prompt or one that leaves no room in max_context (by how much, and what each picture
// costs), ids outside of the vocabulary, pictures that do not fit their placeholders or the model's tiles, unusable
// sampling, stop strings without a tokenizer, a constraint of another tokenizer or together with ignore_eos.
void check_request(const Request& request, const ModelConfig& config, int64_t max_context, bool has_tokenizer);

}  // namespace vl2
