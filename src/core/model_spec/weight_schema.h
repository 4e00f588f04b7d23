// THE list of every tensor of a checkpoint: name, shape and role. Engine and trainer both read it; nothing else spells
// a tensor's name.
#pragma once

#include <string>
#include <vector>

#include "core/base/tensor_view.h"
#include "core/model_spec/model_config.h"

namespace vl2 {

enum class WeightRole {
  kMatrix,     // multiplied: y = W x
  kEmbedding,  // rows are looked up
  kVector,     // norm scale, bias, newline, separator, positions
  kRouter,     // router matrix: always computed in float32
  kExpert,     // matrix of a routed expert
  kUnused,     // in the releases, never read (SigLIP's attention-pooling head); may be missing
};

struct WeightSpec {
  std::string name;
  Shape shape;
  WeightRole role;
  int64_t layer = -1;  // of the decoder; -1: belongs to none
};

std::vector<WeightSpec> weight_schema(const ModelConfig& config);

struct ParameterCounts {
  int64_t vision = 0;     // without the unused pooling head
  int64_t projector = 0;  // with newline and separator
  int64_t language = 0;
  int64_t total = 0;               // vision + projector + language + unused
  int64_t activated = 0;           // vision + projector + activated_language
  int64_t activated_language = 0;  // per token: top-k experts, lm_head, neither embedding table nor expert bias

  int64_t used() const { return vision + projector + language; }
};
ParameterCounts count_parameters(const ModelConfig& config);

}  // namespace vl2
