#include "engine/model/bind_weights.h"

#include <algorithm>

#include "core/model_spec/weight_schema.h"

namespace vl2 {
namespace {

class Binder {
 public:
  Binder(const ModelConfig& config, Ops& ops, WeightSource& source, const BindProgress& progress,
         const MatrixBound& bound)
      : config_(config), ops_(ops), source_(source), progress_(progress), bound_(bound) {
    const auto schema = weight_schema(config);
    total_ =
        std::count_if(schema.begin(), schema.end(), [](const WeightSpec& s) { return s.role != WeightRole::kUnused; });
    if (config.language.tie_word_embeddings) ++total_;  // packed twice: to look up and to multiply
  }

  ModelWeights bind() {
    ModelWeights w;
    w.vision = vision();
    w.projector = projector();
    const LanguageConfig& c = config_.language;
    // The two largest tensors come while little else is in memory: each is there twice for a moment, mapped and packed.
    w.embed_tokens = pack("language.model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, WeightUse::kLookup);
    const std::string head = c.tie_word_embeddings ? "language.model.embed_tokens.weight" : "language.lm_head.weight";
    w.lm_head.weight = pack(head, {c.vocab_size, c.hidden_size}, WeightUse::kLinear);
    for (int64_t i = 0; i < c.num_hidden_layers; ++i) w.layers.push_back(layer(i));
    w.norm = vector("language.model.norm.weight", c.hidden_size);
    return w;
  }

 private:
  // `stored` is the checkpoint's shape, `read_as` the one the backend sees (empty: the same).
  Weight pack(const std::string& name, const Shape& stored, WeightUse use, const Shape& read_as = {}) {
    Weight weight = pack_or_adopt(name, stored, use, read_as);
    if (bound_ && use == WeightUse::kLinear) bound_(name, weight);
    return weight;
  }
  Weight pack_or_adopt(const std::string& name, const Shape& stored, WeightUse use, const Shape& read_as) {
    if (use == WeightUse::kLinear) {
      if (const auto panels = source_.panels(name, stored[0], num_elements(stored) / stored[0])) {
        Weight weight = packer_->adopt(panels->matrix, panels->owner);
        advance();
        return weight;
      }
    }
    TensorView tensor = source_.get(name, stored);
    if (!read_as.empty()) tensor.shape = read_as;
    Weight weight = packer_->pack(tensor, use, source_.owner());
    finish(tensor);
    return weight;
  }
  Weight vector(const std::string& name, int64_t size) { return pack(name, {size}, WeightUse::kVector); }
  Linear linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    Linear result;
    result.weight = pack(name + ".weight", {out, in}, WeightUse::kLinear);
    if (bias) result.bias = vector(name + ".bias", out);
    return result;
  }
  NormWeights layer_norm(const std::string& name, int64_t size) {
    return {vector(name + ".weight", size), vector(name + ".bias", size)};
  }
  GatedMlp gated_mlp(const std::string& name, int64_t hidden, int64_t inner) {
    return {linear(name + ".gate_proj", inner, hidden, false), linear(name + ".up_proj", inner, hidden, false),
            linear(name + ".down_proj", hidden, inner, false)};
  }
  void finish(const TensorView& tensor) {
    source_.done(tensor);
    advance();
  }
  void advance() {
    ++done_;
    if (progress_) progress_(done_, total_);
  }

  VisionWeights vision() {
    const VisionConfig& c = config_.vision;
    VisionWeights w;
    w.patch_embed.weight = pack("vision.patch_embed.proj.weight", {c.width, 3, c.patch_size, c.patch_size},
                                WeightUse::kLinear, {c.width, 3 * c.patch_size * c.patch_size});
    w.patch_embed.bias = vector("vision.patch_embed.proj.bias", c.width);
    w.pos_embed =
        pack("vision.pos_embed", {1, c.num_patches(), c.width}, WeightUse::kLookup, {c.num_patches(), c.width});
    for (int64_t i = 0; i < c.layers; ++i) {
      const std::string block = fmt::format("vision.blocks.{}.", i);
      w.blocks.push_back({layer_norm(block + "norm1", c.width), layer_norm(block + "norm2", c.width),
                          linear(block + "attn.qkv", 3 * c.width, c.width, true),
                          linear(block + "attn.proj", c.width, c.width, true),
                          linear(block + "mlp.fc1", c.mlp_hidden(), c.width, true),
                          linear(block + "mlp.fc2", c.width, c.mlp_hidden(), true)});
    }
    w.norm = layer_norm("vision.norm", c.width);
    return w;
  }

  ProjectorWeights projector() {
    const ProjectorConfig& c = config_.projector;
    ProjectorWeights w;
    const int64_t inner = c.n_embed * c.mlp_ratio;
    int64_t in = c.input_dim * c.downsample_ratio * c.downsample_ratio;
    // layers.0, layers.2, ...: the odd numbers are the activations.
    for (int64_t i = 0; i < c.num_linears(); ++i) {
      const int64_t out = i + 1 == c.num_linears() ? c.n_embed : inner;
      w.layers.push_back(linear(fmt::format("projector.layers.{}", 2 * i), out, in, true));
      in = out;
    }
    w.image_newline = vector("image_newline", c.n_embed);
    w.view_separator = vector("view_seperator", c.n_embed);  // spelled so in the checkpoints
    return w;
  }

  LayerWeights layer(int64_t i) {
    const LanguageConfig& c = config_.language;
    const std::string name = fmt::format("language.model.layers.{}.", i);
    LayerWeights w;
    w.input_norm = vector(name + "input_layernorm.weight", c.hidden_size);
    w.post_norm = vector(name + "post_attention_layernorm.weight", c.hidden_size);
    if (c.use_mla) {
      w.attention = mla(name + "self_attn.");
    } else {
      w.attention = mha(name + "self_attn.");
    }
    if (c.is_moe(i)) {
      w.mlp = moe(name + "mlp.", i);
    } else {
      w.mlp = DenseWeights{gated_mlp(name + "mlp", c.hidden_size, c.intermediate_size)};
    }
    return w;
  }

  MhaWeights mha(const std::string& name) {
    const LanguageConfig& c = config_.language;
    const int64_t size = c.qk_head_dim(), q = c.num_attention_heads * size, kv = c.num_key_value_heads * size;
    return {linear(name + "q_proj", q, c.hidden_size, c.attention_bias),
            linear(name + "k_proj", kv, c.hidden_size, c.attention_bias),
            linear(name + "v_proj", kv, c.hidden_size, c.attention_bias),
            linear(name + "o_proj", c.hidden_size, q, c.attention_bias)};
  }

  MlaWeights mla(const std::string& name) {
    const LanguageConfig& c = config_.language;
    const int64_t heads = c.num_attention_heads, q = heads * c.qk_head_dim();
    const int64_t kv_b = heads * (c.qk_nope_head_dim + c.v_head_dim);
    MlaWeights w;
    if (c.q_lora_rank) {
      w.query = LoraQuery{linear(name + "q_a_proj", *c.q_lora_rank, c.hidden_size, c.attention_bias),
                          vector(name + "q_a_layernorm.weight", *c.q_lora_rank),
                          linear(name + "q_b_proj", q, *c.q_lora_rank, false)};
    } else {
      w.query = PlainQuery{linear(name + "q_proj", q, c.hidden_size, false)};
    }
    w.kv_a = linear(name + "kv_a_proj_with_mqa", c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size, c.attention_bias);
    w.kv_a_norm = vector(name + "kv_a_layernorm.weight", c.kv_lora_rank);
    w.kv_b = latent(name + "kv_b_proj.weight", kv_b);
    w.o = linear(name + "o_proj", c.hidden_size, heads * c.v_head_dim, c.attention_bias);
    return w;
  }

  LatentWeights latent(const std::string& name, int64_t rows) {
    const LanguageConfig& c = config_.language;
    const int64_t heads = c.num_attention_heads, nope = c.qk_nope_head_dim, v = c.v_head_dim, rank = c.kv_lora_rank;
    if (const auto panels = source_.latent_panels(name, {heads, nope, v, rank})) {
      LatentWeights w = ops_.adopt_latent(panels->parts, panels->owner);
      advance();
      return w;
    }
    const TensorView tensor = source_.get(name, {rows, rank});
    LatentWeights w = ops_.pack_latent(tensor, heads, nope, v);
    finish(tensor);
    return w;
  }

  MoeWeights moe(const std::string& name, int64_t layer) {
    const LanguageConfig& c = config_.language;
    MoeWeights w;
    w.gate = pack(name + "gate.weight", {*c.n_routed_experts, c.hidden_size}, WeightUse::kRouter);
    if (c.topk_method == TopkMethod::kNoauxTc)
      w.expert_bias = vector(name + "gate.e_score_correction_bias", *c.n_routed_experts);
    packer_ = &ops_.expert_home(layer);
    for (int64_t e = 0; e < *c.n_routed_experts; ++e)
      w.experts.experts.push_back(
          gated_mlp(fmt::format("{}experts.{}", name, e), c.hidden_size, c.moe_intermediate_size));
    packer_ = &ops_;
    if (c.n_shared_experts > 0)
      w.shared = gated_mlp(name + "shared_experts", c.hidden_size, c.n_shared_experts * c.moe_intermediate_size);
    return w;
  }

  const ModelConfig& config_;
  Ops& ops_;
  Ops* packer_ = &ops_;
  WeightSource& source_;
  const BindProgress& progress_;
  const MatrixBound& bound_;
  int64_t done_ = 0;
  int64_t total_ = 0;
};

}  // namespace

ModelWeights bind_weights(const ModelConfig& config, Ops& ops, WeightSource& source, const BindProgress& progress,
                          const MatrixBound& bound) {
  return Binder(config, ops, source, progress, bound).bind();
}

}  // namespace vl2
