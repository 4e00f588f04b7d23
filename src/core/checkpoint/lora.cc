#include "core/checkpoint/lora.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/model_spec/weight_schema.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::array<std::string_view, 13> kTargets = {
    "all-linear", "q_proj", "q_a_proj",  "q_b_proj", "k_proj",    "v_proj",   "kv_a_proj_with_mqa",
    "kv_b_proj",  "o_proj", "gate_proj", "up_proj",  "down_proj", "projector"};
constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.", kA = ".lora_A.weight", kB = ".lora_B.weight";
constexpr std::string_view kWeight = ".weight";
constexpr size_t kMaxConfigBytes = size_t{1} << 20;
constexpr int64_t kMaxRank = 1 << 14;

bool is_linear(const WeightSpec& spec) {
  return (spec.role == WeightRole::kMatrix || spec.role == WeightRole::kExpert) && spec.shape.size() == 2;
}

std::string module_of(const WeightSpec& spec) { return spec.name.substr(0, spec.name.size() - kWeight.size()); }

std::string_view last_name(std::string_view module) { return module.substr(module.rfind('.') + 1); }

// "" for what no target reaches.
std::string_view target_of(const WeightSpec& spec, const std::string& module) {
  if (!is_linear(spec)) return "";
  if (spec.name.starts_with("projector.")) return "projector";
  if (!spec.name.starts_with("language.model.")) return "";
  return last_name(module);
}

// What PEFT computes differently when one of these is set.
void refuse_variants(const json& root, const JsonObject& object) {
  const auto unsupported = [&](const char* key, const char* expected) {
    object.reject(key, fmt::format("{}: this variant is not run here; merge it with the tool that made it", expected),
                  ErrorCode::kUnsupported);
  };
  if (object.string("peft_type", "LORA") != "LORA") unsupported("peft_type", "\"LORA\"");
  if (object.has("bias") && object.string("bias", "none") != "none") unsupported("bias", "\"none\"");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "rank_pattern", "alpha_pattern",
                          "modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters"}) {
    const auto found = root.find(key);
    if (found == root.end() || found->is_null() || (found->is_structured() && found->empty())) continue;
    if (found->is_boolean() && !found->get<bool>()) continue;
    unsupported(key, "nothing");
  }
}

void check_finite(const fs::path& folder, const std::string& module, const TensorView& tensor) {
  constexpr int64_t kPiece = 1 << 12;
  std::array<float, kPiece> values;
  for (int64_t at = 0; at < tensor.size(); at += kPiece) {
    const int64_t n = std::min(kPiece, tensor.size() - at);
    to_floats(tensor, at, n, values.data());
    if (!std::all_of(values.begin(), values.begin() + n, [](float x) { return std::isfinite(x); }))
      fail(ErrorCode::kCorrupt, "{}: {} has a value that is no finite number; the adapter is damaged: get it again",
           folder.string(), module);
  }
}

void store_rounded(const float* values, int64_t count, DType dtype, std::byte* out) {
  const auto each = [&](auto convert) {
    for (int64_t i = 0; i < count; ++i) {
      const auto value = convert(values[i]);
      std::memcpy(out + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
    }
  };
  switch (dtype) {
    case DType::kBF16:
      return each([](float x) { return to_bf16(x); });
    case DType::kF16:
      return each([](float x) { return float_to_half(x); });
    case DType::kF32:
      return each([](float x) { return x; });
    case DType::kF64:
      return each([](float x) { return double{x}; });
    default:
      fail(ErrorCode::kUnsupported, "a weight of {} cannot be merged with an adapter, expected BF16, F16, F32 or F64",
           dtype_name(dtype));
  }
}

json config_json(const LoraConfig& config, std::span<const LoraTensors> tensors) {
  // PEFT matches a target with the end of a module's name: the projector's layers have no name of their own.
  std::set<std::string> targets;
  for (const LoraTensors& t : tensors)
    targets.insert(t.module.starts_with("projector.") ? t.module : std::string(last_name(t.module)));
  return {{"peft_type", "LORA"},
          {"task_type", "CAUSAL_LM"},
          {"base_model_name_or_path", config.base_model},
          {"r", config.rank},
          {"lora_alpha", config.alpha},
          {"lora_dropout", config.dropout},
          {"use_rslora", config.rank_stabilised},
          {"target_modules", targets},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"modules_to_save", nullptr}};
}

}  // namespace

float LoraConfig::scale() const {
  const auto r = static_cast<double>(rank);
  return static_cast<float>(alpha / (rank_stabilised ? std::sqrt(r) : r));
}

std::span<const std::string_view> lora_target_names() { return kTargets; }

std::vector<LoraLayer> lora_layers(const ModelConfig& config, std::span<const std::string> targets) {
  std::set<std::string_view> wanted, found;
  for (const std::string& target : targets) {
    if (std::find(kTargets.begin(), kTargets.end(), target) == kTargets.end())
      fail(ErrorCode::kInvalidArgument, "LoRA target \"{}\": expected one of {}", target, fmt::join(kTargets, ", "));
    wanted.insert(target);
  }
  const bool all = wanted.contains("all-linear");
  std::vector<LoraLayer> layers;
  for (const WeightSpec& spec : weight_schema(config)) {
    const std::string module = is_linear(spec) ? module_of(spec) : "";
    const std::string_view target = target_of(spec, module);
    if (target.empty() || !(all || wanted.contains(target))) continue;
    found.insert(*std::find(kTargets.begin(), kTargets.end(), target));
    layers.push_back({module, spec.shape[0], spec.shape[1]});
  }
  for (const std::string_view target : wanted)
    if (target != "all-linear" && !found.contains(target))
      fail(ErrorCode::kInvalidArgument, "LoRA target \"{}\": this model has no such linear layer; leave it out",
           target);
  return layers;
}

int64_t lora_num_parameters(std::span<const LoraLayer> layers, int64_t rank) {
  int64_t count = 0;
  for (const LoraLayer& layer : layers) count += rank * (layer.in + layer.out);
  return count;
}

LoraAdapter::LoraAdapter(const fs::path& folder) : folder_(folder) {
  std::error_code ignored;
  if (!fs::exists(folder / kConfigName, ignored))
    fail(ErrorCode::kNotFound, "{}: no {} in this folder; name the folder of a LoRA adapter", folder.string(),
         kConfigName);
  if (!fs::exists(folder / kWeightsName, ignored))
    fail(ErrorCode::kNotFound, "{}: no {} in this folder{}", folder.string(), kWeightsName,
         fs::exists(folder / "adapter_model.bin", ignored) ? "; adapter_model.bin is a Python pickle, which is not "
                                                             "read: save it as safetensors"
                                                           : "");
  read_config();
  file_ = std::make_unique<SafetensorsFile>(folder / kWeightsName);
  read_modules();
}

void LoraAdapter::read_config() {
  const fs::path file = folder_ / kConfigName;
  const json root = parse_json(read_file(file, kMaxConfigBytes), file.string());
  const JsonObject object(root, file.string());
  refuse_variants(root, object);
  if (!object.has("r")) object.reject("r", fmt::format("an integer from 1 to {}", kMaxRank));
  config_.rank = object.integer("r", 0, 1, kMaxRank);
  config_.alpha = object.number("lora_alpha", 8, -1e6, 1e6);  // PEFT's default
  config_.dropout = object.number("lora_dropout", 0, 0, 1);
  config_.rank_stabilised = object.boolean("use_rslora", false);
  const json* base = object.find("base_model_name_or_path");
  if (base != nullptr && base->is_string()) config_.base_model = base->get<std::string>();
}

void LoraAdapter::read_modules() {
  const std::string file = file_->path().string();
  std::map<std::string, std::array<const TensorView*, 2>> found;
  for (const auto& [name, tensor] : file_->tensors()) {
    const bool a = name.ends_with(kA), b = name.ends_with(kB);
    if (!name.starts_with(kPrefix) || !(a || b))
      fail(ErrorCode::kUnsupported, "{}: tensor \"{}\", expected names {}MODULE{} and {} only", file, name, kPrefix, kA,
           kB);
    const size_t end = name.size() - (a ? kA : kB).size();
    if (end <= kPrefix.size()) fail(ErrorCode::kCorrupt, "{}: tensor \"{}\" names no module", file, name);
    if (!is_float(tensor.dtype) || tensor.shape.size() != 2)
      fail(ErrorCode::kCorrupt, "{}: tensor \"{}\" is {} {}, expected a matrix of BF16, F16, F32 or F64", file, name,
           dtype_name(tensor.dtype), shape_string(tensor.shape));
    found[name.substr(kPrefix.size(), end - kPrefix.size())][a ? 0 : 1] = &tensor;
  }
  if (found.empty()) fail(ErrorCode::kCorrupt, "{}: holds no tensor; the adapter changes nothing", file);
  for (const auto& [module, pair] : found) {
    if (pair[0] == nullptr || pair[1] == nullptr)
      fail(ErrorCode::kCorrupt, "{}: {} has no {}", file, module, (pair[0] == nullptr ? kA : kB).substr(1));
    if (pair[0]->shape[0] != config_.rank || pair[1]->shape[1] != config_.rank)
      fail(ErrorCode::kCorrupt, "{}: {} has matrices A {} and B {}, expected rank {} as {} says", file, module,
           shape_string(pair[0]->shape), shape_string(pair[1]->shape), config_.rank, kConfigName);
    modules_[module] = {*pair[0], *pair[1]};
  }
}

const LoraPair* LoraAdapter::find(std::string_view weight) const {
  if (!weight.ends_with(kWeight)) return nullptr;
  const auto found = modules_.find(std::string(weight.substr(0, weight.size() - kWeight.size())));
  return found == modules_.end() ? nullptr : &found->second;
}

void LoraAdapter::check(const ModelConfig& model) const {
  std::map<std::string, Shape> linears;
  for (const WeightSpec& spec : weight_schema(model))
    if (is_linear(spec)) linears[module_of(spec)] = spec.shape;
  std::vector<std::string> problems;
  for (const auto& [module, pair] : modules_) {
    const auto linear = linears.find(module);
    if (linear == linears.end()) {
      problems.push_back(fmt::format("{} is no linear layer of it", module));
    } else if (pair.b.shape[0] != linear->second[0] || pair.a.shape[1] != linear->second[1]) {
      problems.push_back(fmt::format("{} is for a layer {}, it has {}", module,
                                     shape_string({pair.b.shape[0], pair.a.shape[1]}), shape_string(linear->second)));
    }
  }
  if (!problems.empty()) {
    const size_t shown = std::min<size_t>(problems.size(), 3);
    fail(ErrorCode::kInvalidArgument,
         "{}: this adapter was not made for this model: {}{}; use the model it was trained on", folder_.string(),
         fmt::join(problems.begin(), problems.begin() + static_cast<std::ptrdiff_t>(shown), "; "),
         problems.size() > shown ? fmt::format("; and {} more", problems.size() - shown) : "");
  }
  for (const auto& [module, pair] : modules_) {
    check_finite(folder_, module, pair.a);
    check_finite(folder_, module, pair.b);
  }
}

void merge_lora(const TensorView& weight, const LoraPair& pair, float scale, std::span<std::byte> out,
                ThreadPool* pool) {
  VL2_CHECK(weight.shape.size() == 2 && weight.shape[0] == pair.b.shape[0] && weight.shape[1] == pair.a.shape[1] &&
                pair.a.shape[0] == pair.b.shape[1] && out.size() == weight.num_bytes(),
            "adapter {} {} for a weight {}", shape_string(pair.b.shape), shape_string(pair.a.shape),
            shape_string(weight.shape));
  constexpr int64_t kRows = 32;  // of a task
  const int64_t rows = weight.shape[0], cols = weight.shape[1], rank = pair.a.shape[0];
  const std::vector<float> a = to_floats(pair.a), b = to_floats(pair.b);
  const auto row_bytes = static_cast<int64_t>(dtype_size(weight.dtype)) * cols;
  const auto task = [&](int64_t first, int) {
    std::vector<float> values(static_cast<size_t>(cols)), sum(static_cast<size_t>(cols));
    for (int64_t row = first * kRows; row < std::min(rows, (first + 1) * kRows); ++row) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t r = 0; r < rank; ++r) {
        const float factor = b[static_cast<size_t>(row * rank + r)];
        const float* from = a.data() + r * cols;
        for (int64_t k = 0; k < cols; ++k) sum[static_cast<size_t>(k)] += factor * from[k];
      }
      to_floats(weight, row * cols, cols, values.data());
      for (size_t k = 0; k < values.size(); ++k) values[k] += scale * sum[k];
      store_rounded(values.data(), cols, weight.dtype, out.data() + row * row_bytes);
    }
  };
  const int64_t tasks = (rows + kRows - 1) / kRows;
  if (pool != nullptr) return pool->parallel_for(tasks, task);
  for (int64_t i = 0; i < tasks; ++i) task(i, 0);
}

void write_lora(const fs::path& folder, const LoraConfig& config, std::span<const LoraTensors> tensors) {
  std::vector<NamedTensor> named;
  for (const LoraTensors& t : tensors) {
    if (t.a.shape.size() != 2 || t.b.shape.size() != 2 || t.a.shape[0] != config.rank || t.b.shape[1] != config.rank)
      fail(ErrorCode::kInvalidArgument, "{}: {} has matrices A {} and B {}, expected [{}, in] and [out, {}]",
           folder.string(), t.module, shape_string(t.a.shape), shape_string(t.b.shape), config.rank, config.rank);
    named.push_back({fmt::format("{}{}{}", kPrefix, t.module, kA), t.a});
    named.push_back({fmt::format("{}{}{}", kPrefix, t.module, kB), t.b});
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ErrorCode::kIo, "{}: cannot create the folder: {}", folder.string(), error.message());
  write_safetensors(folder / kWeightsName, named, {{"format", "pt"}});
  write_file_atomic(folder / kConfigName, config_json(config, tensors).dump(2) + "\n");
}

}  // namespace vl2
