#include "core/model_spec/weight_schema.h"

#include <fmt/format.h>

#include <utility>

namespace vl2 {
namespace {

// Collects specs below a name prefix.
class Section {
 public:
  Section(std::vector<WeightSpec>& specs, std::string prefix, int64_t layer = -1)
      : specs_(specs), prefix_(std::move(prefix)), layer_(layer) {}

  Section sub(const std::string& name) const { return {specs_, prefix_ + name + ".", layer_}; }
  Section decoder_layer(int64_t i) const { return {specs_, fmt::format("{}layers.{}.", prefix_, i), i}; }

  void add(const std::string& name, Shape shape, WeightRole role) const {
    specs_.push_back({prefix_ + name, std::move(shape), role, layer_});
  }
  void matrix(const std::string& name, int64_t out, int64_t in, WeightRole role = WeightRole::kMatrix) const {
    add(name + ".weight", {out, in}, role);
  }
  void linear(const std::string& name, int64_t out, int64_t in) const {
    matrix(name, out, in);
    add(name + ".bias", {out}, WeightRole::kVector);
  }
  void rms_norm(const std::string& name, int64_t width) const { add(name + ".weight", {width}, WeightRole::kVector); }
  void layer_norm(const std::string& name, int64_t width) const {
    add(name + ".weight", {width}, WeightRole::kVector);
    add(name + ".bias", {width}, WeightRole::kVector);
  }
  void swiglu(const std::string& name, int64_t hidden, int64_t width, WeightRole role = WeightRole::kMatrix) const {
    const Section mlp = sub(name);
    mlp.matrix("gate_proj", hidden, width, role);
    mlp.matrix("up_proj", hidden, width, role);
    mlp.matrix("down_proj", width, hidden, role);
  }

 private:
  std::vector<WeightSpec>& specs_;
  std::string prefix_;
  int64_t layer_;
};

void add_attention_pool(const VisionConfig& c, const Section& vision) {
  std::vector<WeightSpec> specs;
  const Section pool(specs, "attn_pool.");
  pool.add("latent", {1, 1, c.width}, WeightRole::kUnused);
  pool.linear("q", c.width, c.width);
  pool.linear("kv", 2 * c.width, c.width);
  pool.linear("proj", c.width, c.width);
  pool.layer_norm("norm", c.width);
  pool.linear("mlp.fc1", c.mlp_hidden(), c.width);
  pool.linear("mlp.fc2", c.width, c.mlp_hidden());
  for (const WeightSpec& spec : specs) vision.add(spec.name, spec.shape, WeightRole::kUnused);
}

void add_vision(const VisionConfig& c, const Section& vision) {
  vision.add("patch_embed.proj.weight", {c.width, 3, c.patch_size, c.patch_size}, WeightRole::kMatrix);
  vision.add("patch_embed.proj.bias", {c.width}, WeightRole::kVector);
  vision.add("pos_embed", {1, c.num_patches(), c.width}, WeightRole::kVector);
  for (int64_t i = 0; i < c.layers; ++i) {
    const Section block = vision.sub(fmt::format("blocks.{}", i));
    block.layer_norm("norm1", c.width);
    block.linear("attn.qkv", 3 * c.width, c.width);
    block.linear("attn.proj", c.width, c.width);
    block.layer_norm("norm2", c.width);
    block.linear("mlp.fc1", c.mlp_hidden(), c.width);
    block.linear("mlp.fc2", c.width, c.mlp_hidden());
  }
  vision.layer_norm("norm", c.width);
  add_attention_pool(c, vision);
}

// An nn.Sequential with a GELU between each two linear layers: only even places hold weights.
void add_projector(const ProjectorConfig& c, const Section& projector) {
  const int64_t hidden = c.n_embed * c.mlp_ratio;
  for (int64_t i = 0; i < c.num_linears(); ++i) {
    const int64_t in = i == 0 ? c.input_dim * c.downsample_ratio * c.downsample_ratio : hidden;
    projector.linear(fmt::format("layers.{}", 2 * i), i + 1 == c.num_linears() ? c.n_embed : hidden, in);
  }
}

void add_multi_head_attention(const LanguageConfig& c, const Section& attention) {
  const int64_t kv = c.num_key_value_heads * c.qk_head_dim();
  for (const auto& [name, out] :
       {std::pair{"q_proj", c.hidden_size}, {"k_proj", kv}, {"v_proj", kv}, {"o_proj", c.hidden_size}})
    c.attention_bias ? attention.linear(name, out, c.hidden_size) : attention.matrix(name, out, c.hidden_size);
}

void add_latent_attention(const LanguageConfig& c, const Section& attention) {
  // attention_bias reaches these three projections and no others.
  const auto maybe_biased = [&](const char* name, int64_t out, int64_t in) {
    c.attention_bias ? attention.linear(name, out, in) : attention.matrix(name, out, in);
  };
  const int64_t heads = c.num_attention_heads;
  if (c.q_lora_rank) {
    maybe_biased("q_a_proj", *c.q_lora_rank, c.hidden_size);
    attention.rms_norm("q_a_layernorm", *c.q_lora_rank);
    attention.matrix("q_b_proj", heads * c.qk_head_dim(), *c.q_lora_rank);
  } else {
    attention.matrix("q_proj", heads * c.qk_head_dim(), c.hidden_size);
  }
  maybe_biased("kv_a_proj_with_mqa", c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size);
  attention.rms_norm("kv_a_layernorm", c.kv_lora_rank);
  attention.matrix("kv_b_proj", heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank);
  maybe_biased("o_proj", c.hidden_size, heads * c.v_head_dim);
}

void add_moe(const LanguageConfig& c, const Section& layer) {
  const Section mlp = layer.sub("mlp");
  const int64_t experts = *c.n_routed_experts;
  mlp.matrix("gate", experts, c.hidden_size, WeightRole::kRouter);
  if (c.topk_method == TopkMethod::kNoauxTc) mlp.add("gate.e_score_correction_bias", {experts}, WeightRole::kVector);
  for (int64_t e = 0; e < experts; ++e)
    mlp.swiglu(fmt::format("experts.{}", e), c.moe_intermediate_size, c.hidden_size, WeightRole::kExpert);
  if (c.n_shared_experts > 0) mlp.swiglu("shared_experts", c.n_shared_experts * c.moe_intermediate_size, c.hidden_size);
}

void add_language(const LanguageConfig& c, const Section& language) {
  const Section model = language.sub("model");
  model.matrix("embed_tokens", c.vocab_size, c.hidden_size, WeightRole::kEmbedding);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const Section layer = model.decoder_layer(i);
    layer.rms_norm("input_layernorm", c.hidden_size);
    const Section attention = layer.sub("self_attn");
    c.use_mla ? add_latent_attention(c, attention) : add_multi_head_attention(c, attention);
    layer.rms_norm("post_attention_layernorm", c.hidden_size);
    c.is_moe(i) ? add_moe(c, layer) : layer.swiglu("mlp", c.intermediate_size, c.hidden_size);
  }
  model.rms_norm("norm", c.hidden_size);
  if (!c.tie_word_embeddings) language.matrix("lm_head", c.vocab_size, c.hidden_size);
}

}  // namespace

std::vector<WeightSpec> weight_schema(const ModelConfig& config) {
  std::vector<WeightSpec> specs;
  const Section top(specs, "");
  add_vision(config.vision, top.sub("vision"));
  add_projector(config.projector, top.sub("projector"));
  top.add("image_newline", {config.language.hidden_size}, WeightRole::kVector);
  top.add("view_seperator", {config.language.hidden_size}, WeightRole::kVector);  // the checkpoints' spelling
  add_language(config.language, top.sub("language"));
  return specs;
}

ParameterCounts count_parameters(const ModelConfig& config) {
  ParameterCounts counts;
  int64_t unused = 0;
  int64_t experts = 0;
  int64_t not_activated = 0;
  for (const WeightSpec& spec : weight_schema(config)) {
    const int64_t n = num_elements(spec.shape);
    if (spec.role == WeightRole::kUnused) {
      unused += n;
    } else if (spec.name.starts_with("vision.")) {
      counts.vision += n;
    } else if (spec.name.starts_with("language.")) {
      counts.language += n;
      if (spec.role == WeightRole::kExpert) experts += n;
      // A table is looked up, unless it is tied and multiplied by as lm_head too; the expert bias only selects.
      const bool looked_up = spec.role == WeightRole::kEmbedding && !config.language.tie_word_embeddings;
      if (looked_up || spec.name.ends_with(".e_score_correction_bias")) not_activated += n;
    } else {
      counts.projector += n;
    }
  }
  counts.total = counts.vision + counts.projector + counts.language + unused;
  counts.activated_language = counts.language - experts - not_activated;
  if (experts > 0)
    counts.activated_language += experts / *config.language.n_routed_experts * config.language.num_experts_per_tok;
  counts.activated = counts.vision + counts.projector + counts.activated_language;
  return counts;
}

}  // namespace vl2
