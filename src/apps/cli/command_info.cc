// vl2 info: what is inside a model and the memory it needs; with --cpu, what this machine runs.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/model_files.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/terminal.h"
#include "core/base/available_memory.h"
#include "core/image/tiling.h"
#include "core/model_spec/format_plan.h"
#include "core/model_spec/weight_schema.h"
#include "engine/backends.h"
#include "engine/runtime/memory_plan.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;

struct InfoOptions {
  std::string model;
  bool json = false, cpu = false;
};

// Memory of one conversation at a time that fills the context, as `vl2 ask` and `vl2 chat` plan it.
MemoryReport memory_of(const ModelFiles& model) {
  BackendOptions options;
  options.weights = model.matrix_type;
  options.quantized = model.config.quantization.has_value();
  MemoryPlanInput input;
  input.footprint = backend_footprint("auto", options);
  input.format = model.config.quantization;
  input.cached_tokens = input.max_context = model.config.language.max_position_embeddings;
  return plan_memory(model.config, input);
}

// "12,345,678"
std::string grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (int64_t i = static_cast<int64_t>(digits.size()) - 3; i > 0; i -= 3) digits.insert(static_cast<size_t>(i), ",");
  return digits;
}

std::string rough(int64_t number) {
  const auto n = static_cast<double>(number);
  if (n >= 1e9) return fmt::format("{:.2f} billion", n / 1e9);
  return fmt::format("{:.2f} million", n / 1e6);
}

std::string attention_text(const LanguageConfig& c) {
  if (c.use_mla)
    return fmt::format("MLA, {} heads, a cache of {} + {} values a token and layer", c.num_attention_heads,
                       c.kv_lora_rank, c.qk_rope_head_dim);
  return fmt::format("{}, {} heads of {}, {} of keys and values",
                     c.num_key_value_heads == c.num_attention_heads ? "MHA" : "GQA", c.num_attention_heads,
                     c.qk_head_dim(), c.num_key_value_heads);
}

const char* routing_name(TopkMethod method) {
  switch (method) {
    case TopkMethod::kGreedy:
      return "greedy";
    case TopkMethod::kGroupLimitedGreedy:
      return "group_limited_greedy";
    case TopkMethod::kNoauxTc:
      break;
  }
  return "noaux_tc";
}

int64_t num_moe_layers(const LanguageConfig& c) {
  int64_t layers = 0;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) layers += c.is_moe(i) ? 1 : 0;
  return layers;
}

std::string experts_text(const LanguageConfig& c) {
  if (!c.n_routed_experts) return "none: every layer is dense";
  return fmt::format("{} routed, {} of them for a token, {} shared; {} of {} layers; {} scores, {}",
                     *c.n_routed_experts, c.num_experts_per_tok, c.n_shared_experts, num_moe_layers(c),
                     c.num_hidden_layers, c.scoring_func == ScoringFunc::kSigmoid ? "sigmoid" : "softmax",
                     routing_name(c.topk_method));
}

// Without tensors that the releases have and nobody reads, unless they are there.
ParameterCounts parameters_of(const ModelFiles& model) {
  ParameterCounts counts = count_parameters(model.config);
  for (const WeightSpec& spec : weight_schema(model.config))
    if (spec.role == WeightRole::kUnused && model.checkpoint.find(spec.name) == nullptr)
      counts.total -= num_elements(spec.shape);
  return counts;
}

struct PictureCost {
  int64_t least = 0, most = 0;
};
PictureCost picture_cost(const ModelConfig& config) {
  PictureCost cost{INT64_MAX, 0};
  for (const auto& [width, height] : config.candidate_resolutions) {
    const int64_t tokens =
        num_vision_tokens({width / config.tile_size(), height / config.tile_size()}, config.tokens_per_side());
    cost = {std::min(cost.least, tokens), std::max(cost.most, tokens)};
  }
  return cost;
}

struct StoredTensors {
  int64_t tensors = 0, bytes = 0;
};

// By element type, or by the form of panels: "q4".
std::map<std::string, StoredTensors> stored_types(const ModelFiles& model) {
  std::map<std::string, StoredTensors> types;
  for (const std::string& name : model.checkpoint.names()) {
    const TensorView& tensor = model.checkpoint.at(name);
    std::string type(dtype_name(tensor.dtype));
    if (model.config.quantization && tensor.dtype == DType::kU8)
      if (const auto format = parse_panel_format(name.substr(name.rfind('.') + 1)))
        type = fmt::format("{} panels", panel_format_name(*format));
    ++types[type].tensors;
    types[type].bytes += static_cast<int64_t>(tensor.num_bytes());
  }
  return types;
}

double bits_per_weight(const ModelFiles& model, const ParameterCounts& n) {
  return 8.0 * static_cast<double>(model.checkpoint.num_bytes()) / static_cast<double>(n.total);
}

std::string model_text(const ModelFiles& model) {
  const ModelConfig& c = model.config;
  const ParameterCounts n = parameters_of(model);
  const MemoryReport memory = memory_of(model);
  const PictureCost cost = picture_cost(c);
  std::string types;
  for (const auto& [type, stored] : stored_types(model))
    types += model.config.quantization ? fmt::format("{}{} {} of {}", types.empty() ? "" : ", ", stored.tensors, type,
                                                     format_bytes(stored.bytes))
                                       : fmt::format("{}{} {}", types.empty() ? "" : ", ", stored.tensors, type);
  std::string out;
  const auto line = [&out](std::string_view key, const std::string& value) {
    out += fmt::format("{:<15}{}\n", key, value);
  };
  line("model", model.folder.string());
  line("vision encoder",
       fmt::format("SigLIP, {} layers of {}, {} heads; tiles of {} pixels, {} patches", c.vision.layers, c.vision.width,
                   c.vision.heads, c.vision.image_size, c.vision.num_patches()));
  line("projector", fmt::format("{} x {} patches to a vision token, {} layers", c.projector.downsample_ratio,
                                c.projector.downsample_ratio, c.projector.num_linears()));
  line("decoder", fmt::format("{} layers of {}, vocabulary {}", c.language.num_hidden_layers, c.language.hidden_size,
                              c.language.vocab_size));
  line("attention", attention_text(c.language));
  line("experts", experts_text(c.language));
  line("context",
       fmt::format("{} tokens; a picture takes {} to {}", c.language.max_position_embeddings, cost.least, cost.most));
  line("parameters", fmt::format("{} ({}): vision {}, projector {}, language {}", grouped(n.total), rough(n.total),
                                 grouped(n.vision), grouped(n.projector), grouped(n.language)));
  line("activated", fmt::format("{} ({}), of these {} of the language model for every token", grouped(n.activated),
                                rough(n.activated), grouped(n.activated_language)));
  line("tensors",
       fmt::format("{} ({}), {}", model.checkpoint.names().size(), types, format_bytes(model.checkpoint.num_bytes())));
  if (c.quantization)
    line("quantised",
         fmt::format("{}, {:.2f} bits a parameter", model_format_name(*c.quantization), bits_per_weight(model, n)));
  line("memory", fmt::format("{}: weights {}, cache for {} tokens {}, activations {}", format_bytes(memory.total()),
                             format_bytes(memory.weights), memory.cached_tokens, format_bytes(memory.cache),
                             format_bytes(memory.activations)));
  if (const auto available = available_memory()) line("available", format_bytes(*available));
  return out;
}

ordered_json language_json(const LanguageConfig& c) {
  ordered_json out = {{"layers", c.num_hidden_layers},
                      {"hidden_size", c.hidden_size},
                      {"vocab_size", c.vocab_size},
                      {"max_position_embeddings", c.max_position_embeddings},
                      {"attention", c.use_mla ? "mla" : "mha"},
                      {"heads", c.num_attention_heads},
                      {"kv_heads", c.num_key_value_heads}};
  if (c.use_mla) out["kv_lora_rank"] = c.kv_lora_rank;
  out["moe_layers"] = num_moe_layers(c);
  if (c.n_routed_experts) {
    out["routed_experts"] = *c.n_routed_experts;
    out["experts_per_token"] = c.num_experts_per_tok;
    out["shared_experts"] = c.n_shared_experts;
    out["scoring"] = c.scoring_func == ScoringFunc::kSigmoid ? "sigmoid" : "softmax";
    out["topk_method"] = routing_name(c.topk_method);
  }
  return out;
}

ordered_json model_json(const ModelFiles& model) {
  const ModelConfig& c = model.config;
  const ParameterCounts n = parameters_of(model);
  const MemoryReport memory = memory_of(model);
  const PictureCost cost = picture_cost(c);
  ordered_json out;
  out["model"] = model.folder.string();
  out["architecture"] = {
      {"vision",
       {{"name", c.vision.model_name},
        {"layers", c.vision.layers},
        {"width", c.vision.width},
        {"heads", c.vision.heads},
        {"patch_size", c.vision.patch_size}}},
      {"projector", {{"layers", c.projector.num_linears()}, {"downsample_ratio", c.projector.downsample_ratio}}},
      {"language", language_json(c.language)}};
  out["images"] = {{"tile_size", c.tile_size()}, {"min_tokens", cost.least}, {"max_tokens", cost.most}};
  out["parameters"] = {{"total", n.total},         {"vision", n.vision},
                       {"projector", n.projector}, {"language", n.language},
                       {"activated", n.activated}, {"activated_language", n.activated_language}};
  ordered_json dtypes = ordered_json::object(), bytes = ordered_json::object();
  for (const auto& [type, stored] : stored_types(model)) {
    dtypes[type] = stored.tensors;
    bytes[type] = stored.bytes;
  }
  out["tensors"] = {{"count", model.checkpoint.names().size()},
                    {"bytes", model.checkpoint.num_bytes()},
                    {"dtypes", std::move(dtypes)}};
  if (c.quantization)
    out["quantization"] = {{"format", model_format_name(*c.quantization)},
                           {"bits_per_parameter", bits_per_weight(model, n)},
                           {"bytes", std::move(bytes)}};
  out["memory"] = {{"weights", memory.weights},
                   {"cache", memory.cache},
                   {"activations", memory.activations},
                   {"total", memory.total()},
                   {"cached_tokens", memory.cached_tokens}};
  if (const auto available = available_memory()) out["memory"]["available"] = *available;
  return out;
}

ordered_json processor_json(const ProcessorReport& report) {
  return {{"processor", report.processor},
          {"threads", report.threads},
          {"detected", report.detected},
          {"kernels", report.kernels},
          {"backends", backend_names()}};
}

int run(const InfoOptions& options) {
  if (options.cpu) {
    const ProcessorReport report = processor_report();
    write_stdout(options.json ? processor_json(report).dump(2) + "\n"
                              : report.text + fmt::format("backends   {}\n", fmt::join(backend_names(), ", ")));
    return kExitOk;
  }
  const ModelFiles model(find_model(options.model));
  write_stdout(options.json ? model_json(model).dump(2) + "\n" : printable(model_text(model)));
  return kExitOk;
}

}  // namespace

RunCommand declare_info(CLI::App& app) {
  const auto options = std::make_shared<InfoOptions>();
  auto* positional = app.add_option("model", options->model, "As -m")->type_name("MODEL");
  add_model_option(app, options->model);
  app.get_option("--model")->excludes(positional);
  app.add_flag("--json", options->json, "The same as one JSON object; sizes in bytes");
  app.add_flag("--cpu", options->cpu,
               "Instead: what this processor has and which kernels run (VL2_CPU_ISA=scalar|avx2|avxvnni|avx512|"
               "avx512vnni|avx512bf16|amx asks for others)");
  app.footer(
      "Memory is planned for one conversation that fills the context, on the best backend.\n\n"
      "Example:\n  vl2 info models/nano\n  VL2_CPU_ISA=avx2 vl2 info --cpu");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
