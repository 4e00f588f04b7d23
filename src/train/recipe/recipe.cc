#include "train/recipe/recipe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/checkpoint/lora.h"
#include "train/recipe/overrides.h"
#include "train/recipe/strict_object.h"

namespace vl2::train {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kMaxRecipeBytes = size_t{4} << 20;
constexpr int64_t kMost = int64_t{1} << 48;  // products of two counts of this size are never taken
constexpr int64_t kMostLength = int64_t{1} << 24;

const std::array<std::string, 4> kStages = {"alignment", "pretraining", "sft", "lora"};
const std::array<std::string, 3> kSchedulers = {"cosine", "step", "constant"};
const std::array<std::string, 2> kComputes = {"bf16", "fp32"};
const std::array<std::string, 2> kOptimizers = {"adamw", "muon"};
const std::array<std::string, 2> kBadRecords = {"skip", "refuse"};
const std::array<std::string, 2> kOverLong = {"truncate", "drop"};
const std::array<std::string, 5> kFormats = {"auto", "records", "ms-swift", "sharegpt", "text"};
const std::array<std::string, 3> kModules = {"vision", "projector", "language"};

template <typename Enum, size_t N>
Enum choose(StrictObject& object, const std::string& key, Enum fallback, const std::array<std::string, N>& names) {
  return static_cast<Enum>(object.choice(key, static_cast<size_t>(fallback), names));
}

bool is_pattern(const std::string& text) { return text.find_first_of(".*?") != text.npos; }

bool is_device(const std::string& text) {
  if (text == "auto" || text == "cpu" || text == "cuda") return true;
  const std::string number = text.starts_with("cuda:") ? text.substr(5) : "";
  return !number.empty() && number.size() <= 2 && number.find_first_not_of("0123456789") == std::string::npos;
}

// Reads one file; the reading of a section stands in a function of its own.
class Reader {
 public:
  Reader(const json& root, std::string where) : root_(root), where_(std::move(where)) {}

  Recipe read() {
    StrictObject o(root_, where_);
    r_.name = o.required_string("name");
    if (!o.has("stage")) o.reject("stage", fmt::format("one of {}", fmt::join(kStages, ", ")));
    r_.stage = choose(o, "stage", Stage::kSft, kStages);
    model(o);
    data(o);
    sequences(o);
    length(o);
    optimizer(o);
    schedule(o);
    trained(o);
    run(o);
    o.finish();
    return std::move(r_);
  }

 private:
  // {} where the key is absent.
  StrictObject section(StrictObject& parent, const std::string& key) {
    const json* value = parent.find(key);
    return {value != nullptr ? *value : empty_, where_, parent.path_of(key)};
  }

  void model(StrictObject& parent) {
    StrictObject o = section(parent, "model");
    ModelSource& m = r_.model;
    m.init = o.string("init", "");
    m.config = o.string("config", "");
    m.init_vision = o.string("init_vision", "");
    m.init_language = o.string("init_language", "");
    m.tokenizer = o.string("tokenizer", "");
    m.init_seed = o.integer("init_seed", 0, 0, kMost);
    o.finish();
    if (m.init.empty() == m.config.empty())
      parent.reject("model", "an object with either init (a model folder) or config (random weights of that shape)");
    if (!m.init.empty() && !(m.init_vision.empty() && m.init_language.empty()))
      parent.reject("model", "init_vision and init_language beside config only; init loads everything");
  }

  void data(StrictObject& o) {
    const json* list = o.find("data");
    if (list == nullptr || !list->is_array() || list->empty())
      o.reject("data", "a list of sources, [{\"path\": \"records.jsonl\", \"weight\": 1}]");
    for (size_t i = 0; i < list->size(); ++i) {
      StrictObject item((*list)[i], where_, fmt::format("data.{}", i));
      DataSource source;
      source.path = item.required_string("path");
      source.weight = item.positive("weight", 1, 1e9);
      source.image_root = item.string("image_root", "");
      source.format = kFormats[item.choice("format", 0, kFormats)];
      item.finish();
      r_.data.push_back(std::move(source));
    }
  }

  void sequences(StrictObject& o) {
    r_.max_length = o.integer("max_length", 4096, 8, kMostLength);
    r_.packing = o.boolean("packing", r_.stage != Stage::kAlignment);
    r_.mask_prompt = o.boolean("mask_prompt", r_.stage == Stage::kSft || r_.stage == Stage::kLora);
    r_.label_pictures = o.boolean("label_pictures", false);
    r_.over_long = choose(o, "over_long", OverLong::kTruncate, kOverLong);
    r_.bad_records = choose(o, "bad_records", BadRecords::kSkip, kBadRecords);
    r_.batch_size = o.integer("batch_size", 64, 1, int64_t{1} << 24);
    r_.micro_batch = o.integer("micro_batch", 1, 1, int64_t{1} << 20);
    if (r_.batch_size % r_.micro_batch != 0)
      o.reject("micro_batch", fmt::format("a divisor of batch_size, which is {}", r_.batch_size));
    r_.replicas = o.integer("replicas", 1, 1, 1024);
    if (r_.replicas > r_.batch_size / r_.micro_batch)
      o.reject("replicas", fmt::format("at most the {} micro-batches of a step", r_.batch_size / r_.micro_batch));
  }

  void length(StrictObject& o) {
    if (o.has("steps")) r_.steps = o.integer("steps", 0, 1, kMost);
    if (o.has("tokens")) r_.tokens = o.integer("tokens", 0, 1, kMost);
    if (o.has("epochs")) r_.epochs = o.positive("epochs", 0, 1e6);
    const int set = (r_.steps ? 1 : 0) + (r_.tokens ? 1 : 0) + (r_.epochs ? 1 : 0);
    if (set != 1)
      fail(ErrorCode::kCorrupt, "{}: {} steps, tokens and epochs, expected exactly one of them: how long to train",
           where_, set == 0 ? "has none of" : "has several of");
  }

  void optimizer(StrictObject& o) {
    if (!o.has("learning_rate")) o.reject("learning_rate", "a number above 0");
    r_.learning_rate = o.positive("learning_rate", 0, 10);
    r_.vision_lr_multiplier = o.number("vision_lr_multiplier", 0.1, 0, 1000);
    r_.projector_lr_multiplier = o.number("projector_lr_multiplier", 1, 0, 1000);
    r_.weight_decay = o.number("weight_decay", 0.1, 0, 10);
    r_.no_decay = o.strings("no_decay", {});
    const std::vector<double> betas = o.numbers("betas", {0.9, 0.95}, 0, 0.999999999);
    if (betas.size() != 2) o.reject("betas", "two numbers, at least 0 and below 1");
    r_.beta1 = betas[0];
    r_.beta2 = betas[1];
    r_.eps = o.positive("eps", 1e-8, 1);
    r_.grad_clip = o.number("grad_clip", 1, 0, 1e9);
    r_.compute = choose(o, "compute", ComputeType::kBf16, kComputes);
    r_.optimizer = choose(o, "optimizer", OptimizerType::kAdamW, kOptimizers);
    r_.bf16_optimizer = o.boolean("bf16_optimizer", false);
  }

  void schedule(StrictObject& o) {
    Scheduler& s = r_.scheduler;
    const json* value = o.find("scheduler");
    if (value != nullptr && value->is_object()) {
      StrictObject inner(*value, where_, "scheduler");
      s.type = choose(inner, "type", SchedulerType::kCosine, kSchedulers);
      if (s.type == SchedulerType::kCosine) s.floor = inner.number("floor", s.floor, 0, 1);
      if (s.type == SchedulerType::kStep) {
        s.factor = inner.positive("factor", s.factor, 1);
        s.at = inner.numbers("at", s.at, 0, 1);
        if (!std::is_sorted(s.at.begin(), s.at.end())) inner.reject("at", "shares of all steps in ascending order");
      }
      inner.finish();
    } else {
      s.type = choose(o, "scheduler", SchedulerType::kCosine, kSchedulers);
    }
    if (o.has("warmup_ratio")) r_.warmup_ratio = o.number("warmup_ratio", 0, 0, 1);
    if (o.has("warmup_steps")) r_.warmup_steps = o.integer("warmup_steps", 0, 0, kMost);
    if (r_.warmup_ratio && r_.warmup_steps) o.reject("warmup_steps", "nothing beside warmup_ratio");
  }

  void trained(StrictObject& o) {
    r_.freeze = o.strings(
        "freeze", r_.stage == Stage::kAlignment ? std::vector<std::string>{"language"} : std::vector<std::string>{});
    for (const std::string& entry : r_.freeze)
      if (!is_pattern(entry) && std::find(kModules.begin(), kModules.end(), entry) == kModules.end())
        o.reject("freeze", fmt::format("entries {} or a pattern of tensor names such as vision.blocks.0.*; \"{}\" is "
                                       "neither",
                                       fmt::join(kModules, ", "), entry));
    r_.aux_loss_alpha = o.number("aux_loss_alpha", 0.001, 0, 100);
    r_.seq_aux = o.boolean("seq_aux", true);
    r_.expert_bias_step = o.number("expert_bias_step", 0, 0, 1);
    StrictObject recompute = section(o, "recompute");
    r_.recompute.vision_blocks = recompute.integer("vision_blocks", 0, -1, 1 << 20);
    r_.recompute.language = recompute.boolean("language", false);
    recompute.finish();
    lora(o);
  }

  void lora(StrictObject& o) {
    const bool wanted = r_.stage == Stage::kLora;
    if (!o.has("lora")) {
      if (wanted) o.reject("lora", "an object with rank, alpha and targets, because the stage is lora");
      return;
    }
    if (!wanted) o.reject("lora", "nothing: only the stage lora trains an adapter");
    StrictObject inner = section(o, "lora");
    LoraRecipe lora;
    lora.rank = inner.integer("rank", 8, 1, 4096);
    lora.alpha = inner.positive("alpha", 32, 1e6);
    lora.dropout = inner.number("dropout", 0, 0, 0.99);
    const json* targets = inner.find("targets");
    if (targets != nullptr && targets->is_string()) {
      lora.targets = {targets->get<std::string>()};
    } else {
      lora.targets = inner.strings("targets", lora.targets);
    }
    const auto names = lora_target_names();
    const std::vector<std::string> known(names.begin(), names.end());
    if (lora.targets.empty()) inner.reject("targets", "at least one target");
    for (const std::string& target : lora.targets)
      if (std::find(known.begin(), known.end(), target) == known.end())
        inner.reject("targets", fmt::format("names of {}", fmt::join(known, ", ")));
    inner.finish();
    r_.lora = std::move(lora);
  }

  void run(StrictObject& o) {
    r_.max_bad_steps = o.integer("max_bad_steps", 5, 1, 1 << 20);
    r_.seed = o.integer("seed", 0, 0, kMost);
    r_.workers = o.integer("workers", 1, 0, 1024);
    r_.threads = o.integer("threads", 0, 0, 1024);
    r_.device = o.string("device", "auto");
    if (!is_device(r_.device)) o.reject("device", "auto, cpu, cuda or cuda:N with the number of the card");
    r_.log_every = o.integer("log_every", 1, 1, kMost);
    r_.save_every = o.integer("save_every", 500, 0, kMost);
    r_.keep = o.integer("keep", 3, 1, 1 << 20);
    StrictObject eval = section(o, "eval");
    r_.eval.every = eval.integer("every", 0, 0, kMost);
    r_.eval.records = eval.string("records", "");
    r_.eval.count = eval.integer("count", 8, 1, 1 << 20);
    r_.eval.draw_boxes = eval.boolean("draw_boxes", true);
    if (r_.eval.every > 0 && r_.eval.records.empty()) eval.reject("records", "a file of held-out records");
    eval.finish();
    r_.output = o.required_string("output");
  }

  const json& root_;
  const std::string where_;
  const json empty_ = json::object();
  Recipe r_;
};

ordered_json scheduler_json(const Scheduler& s) {
  ordered_json out = {{"type", kSchedulers[static_cast<size_t>(s.type)]}};
  if (s.type == SchedulerType::kCosine) out["floor"] = s.floor;
  if (s.type == SchedulerType::kStep) {
    out["factor"] = s.factor;
    out["at"] = s.at;
  }
  return out;
}

}  // namespace

std::string_view stage_name(Stage stage) { return kStages[static_cast<size_t>(stage)]; }

Recipe parse_recipe(std::string_view text, const std::string& where, std::span<const std::string> overrides) {
  json root = parse_json(text, where);
  for (const std::string& override : overrides) apply_override(root, override, where);
  return Reader(root, where).read();
}

Recipe load_recipe(const std::filesystem::path& file, std::span<const std::string> overrides) {
  return parse_recipe(read_file(file, kMaxRecipeBytes), file.string(), overrides);
}

std::string recipe_json(const Recipe& r) {
  ordered_json o;
  o["name"] = r.name;
  o["stage"] = stage_name(r.stage);
  o["model"] = {{"init", r.model.init},
                {"config", r.model.config},
                {"init_vision", r.model.init_vision},
                {"init_language", r.model.init_language},
                {"tokenizer", r.model.tokenizer},
                {"init_seed", r.model.init_seed}};
  for (const DataSource& s : r.data)
    o["data"].push_back({{"path", s.path}, {"weight", s.weight}, {"image_root", s.image_root}, {"format", s.format}});
  o["max_length"] = r.max_length;
  o["packing"] = r.packing;
  o["mask_prompt"] = r.mask_prompt;
  o["over_long"] = kOverLong[static_cast<size_t>(r.over_long)];
  o["bad_records"] = kBadRecords[static_cast<size_t>(r.bad_records)];
  o["label_pictures"] = r.label_pictures;
  o["batch_size"] = r.batch_size;
  o["micro_batch"] = r.micro_batch;
  o["replicas"] = r.replicas;
  if (r.steps) o["steps"] = *r.steps;
  if (r.tokens) o["tokens"] = *r.tokens;
  if (r.epochs) o["epochs"] = *r.epochs;
  o["learning_rate"] = r.learning_rate;
  o["vision_lr_multiplier"] = r.vision_lr_multiplier;
  o["projector_lr_multiplier"] = r.projector_lr_multiplier;
  o["scheduler"] = scheduler_json(r.scheduler);
  if (r.warmup_ratio) o["warmup_ratio"] = *r.warmup_ratio;
  if (r.warmup_steps) o["warmup_steps"] = *r.warmup_steps;
  o["weight_decay"] = r.weight_decay;
  o["no_decay"] = r.no_decay;
  o["betas"] = {r.beta1, r.beta2};
  o["eps"] = r.eps;
  o["grad_clip"] = r.grad_clip;
  o["compute"] = kComputes[static_cast<size_t>(r.compute)];
  o["optimizer"] = kOptimizers[static_cast<size_t>(r.optimizer)];
  o["bf16_optimizer"] = r.bf16_optimizer;
  o["freeze"] = r.freeze;
  o["aux_loss_alpha"] = r.aux_loss_alpha;
  o["seq_aux"] = r.seq_aux;
  o["expert_bias_step"] = r.expert_bias_step;
  o["recompute"] = {{"vision_blocks", r.recompute.vision_blocks}, {"language", r.recompute.language}};
  o["max_bad_steps"] = r.max_bad_steps;
  o["seed"] = r.seed;
  o["workers"] = r.workers;
  o["threads"] = r.threads;
  o["device"] = r.device;
  o["log_every"] = r.log_every;
  o["save_every"] = r.save_every;
  o["keep"] = r.keep;
  o["eval"] = {
      {"every", r.eval.every}, {"records", r.eval.records}, {"count", r.eval.count}, {"draw_boxes", r.eval.draw_boxes}};
  if (r.lora)
    o["lora"] = {
        {"rank", r.lora->rank}, {"alpha", r.lora->alpha}, {"dropout", r.lora->dropout}, {"targets", r.lora->targets}};
  o["output"] = r.output;
  return o.dump(2) + "\n";
}

int64_t resolve_steps(const Recipe& recipe, const DataSize& data) {
  if (recipe.steps) return *recipe.steps;
  const auto batch = static_cast<double>(recipe.batch_size);
  const double mean = data.tokens_per_sequence > 0 ? data.tokens_per_sequence : static_cast<double>(recipe.max_length);
  const double steps = recipe.tokens ? static_cast<double>(*recipe.tokens) / (batch * mean)
                                     : recipe.epochs.value_or(1) * static_cast<double>(data.sequences) / batch;
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(std::min(steps, static_cast<double>(kMost)))));
}

int64_t resolve_warmup(const Recipe& recipe, int64_t steps) {
  if (recipe.warmup_steps) return std::min(*recipe.warmup_steps, steps);
  const auto share = [steps](double ratio) {
    return static_cast<int64_t>(std::ceil(ratio * static_cast<double>(steps) - 1e-9));
  };
  if (recipe.warmup_ratio) return share(*recipe.warmup_ratio);
  return std::min(std::max<int64_t>(share(0.02), 100), steps / 10);
}

}  // namespace vl2::train
