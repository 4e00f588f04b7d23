// The model's weights by role, packed for one backend. This file and core/model_spec/weight_schema are the two places
// that know tensor names; a test asserts that they read exactly the same ones.
#pragma once

#include <functional>
#include <optional>
#include <variant>
#include <vector>

#include "core/model_spec/model_config.h"
#include "engine/model/weight_source.h"
#include "engine/ops/ops.h"

namespace vl2 {

struct NormWeights {
  Weight weight, bias;  // bias: LayerNorm only
};

struct VisionBlockWeights {
  NormWeights norm1, norm2;
  Linear qkv, proj, fc1, fc2;
};

struct VisionWeights {
  Linear patch_embed;
  Weight pos_embed;  // [patches, width]
  std::vector<VisionBlockWeights> blocks;
  NormWeights norm;
};

struct ProjectorWeights {
  std::vector<Linear> layers;
  Weight image_newline;
  Weight view_separator;
};

struct MhaWeights {
  Linear q, k, v, o;
};

struct PlainQuery {
  Linear q;
};
struct LoraQuery {
  Linear q_a;
  Weight q_a_norm;
  Linear q_b;
};
struct MlaWeights {
  std::variant<PlainQuery, LoraQuery> query;
  Linear kv_a;
  Weight kv_a_norm;
  LatentWeights kv_b;
  Linear o;
};

struct DenseWeights {
  GatedMlp mlp;
};
struct MoeWeights {
  Weight gate;
  Weight expert_bias;  // kNoauxTc only
  ExpertWeights experts;
  std::optional<GatedMlp> shared;
};

struct LayerWeights {
  Weight input_norm, post_norm;
  std::variant<MhaWeights, MlaWeights> attention;
  std::variant<DenseWeights, MoeWeights> mlp;
};

struct ModelWeights {
  VisionWeights vision;
  ProjectorWeights projector;
  Weight embed_tokens;
  std::vector<LayerWeights> layers;
  Weight norm;
  Linear lm_head;
};

// Called after each tensor with the number packed so far and in all.
using BindProgress = std::function<void(int64_t done, int64_t total)>;
// Told of every matrix but latent attention's kv_b, under its tensor's name.
using MatrixBound = std::function<void(const std::string& tensor, const Weight& matrix)>;

ModelWeights bind_weights(const ModelConfig& config, Ops& ops, WeightSource& source, const BindProgress& progress = {},
                          const MatrixBound& bound = {});

}  // namespace vl2
