// How sure the model was of the boxes in its answer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/text/grounding.h"
#include "core/text/tokenizer.h"

namespace vl2 {

struct ScoredBox {
  Box box;
  // 0 to 1: the geometric mean of the probabilities of the tokens that hold the box's digits. Not calibrated; good for
  // comparing boxes of one model. A mean, so that numbers of three digits are not worse than those of one; brackets and
  // commas are left out, since they say nothing about where.
  double score = 0;
};

struct ScoredObject {
  std::string label;
  std::vector<ScoredBox> boxes;
};

// `ids` and `logprobs` of an answer, token by token (TokenEvent). Boxes are those of parse_grounding(), in its order. A
// token without probability (-inf) gives the score 0. kInvalidArgument: not one logprob for each id.
std::vector<ScoredObject> score_grounding(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                                          std::span<const float> logprobs);

}  // namespace vl2
