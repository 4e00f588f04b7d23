// A training run as one JSON file: what is trained, on what, how long, how fast.
//
// The parser is strict: an unknown key is an error that names the nearest known one, types and ranges are checked, and
// every message starts with the file and the key's path. Keys that begin with "_" are notes for readers. The fields,
// and what stands for one that is absent, are in docs/training.md. Plain data without libtorch; any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vl2::train {

enum class Stage { kAlignment, kPretraining, kSft, kLora };
enum class SchedulerType { kCosine, kStep, kConstant };
enum class ComputeType { kBf16, kFp32 };
enum class OptimizerType { kAdamW, kMuon };
enum class BadRecords { kSkip, kRefuse };  // unreadable pictures, wrong counts, boxes outside: skip and count, or stop
enum class OverLong { kTruncate, kDrop };  // truncate: turns leave from the end, never inside a picture

std::string_view stage_name(Stage stage);

// Where the weights come from: `init`, or a config with random weights into which whole parts may be loaded.
struct ModelSource {
  std::string init;           // a model folder
  std::string config;         // a preset's name, a config.json, or a folder with one
  std::string init_vision;    // a model folder or checkpoint whose vision.* tensors are taken
  std::string init_language;  // the same for language.*
  std::string tokenizer;      // folder of tokenizer and processor files; empty: of init, init_language or config
  int64_t init_seed = 0;
  bool operator==(const ModelSource&) const = default;
};

struct DataSource {
  std::string path;
  double weight = 1;       // share of the tokens, relative to the others'
  std::string image_root;  // relative picture paths start here; empty: the folder of `path`
  std::string format = "auto";
  bool operator==(const DataSource&) const = default;
};

struct Scheduler {
  SchedulerType type = SchedulerType::kCosine;
  double floor = 0.1;                    // cosine: of the learning rate, at the last step
  double factor = 0.31622776601683794;   // step: 1 / sqrt 10 at each of `at`
  std::vector<double> at = {0.5, 0.75};  // step: shares of all steps, ascending
  bool operator==(const Scheduler&) const = default;
};

struct Recompute {
  int64_t vision_blocks = 0;  // the first N blocks of the vision encoder; -1: all
  bool language = false;      // every decoder layer
  bool operator==(const Recompute&) const = default;
};

struct Evaluation {
  int64_t every = 0;    // steps; 0: never
  std::string records;  // held-out records
  int64_t count = 8;    // of them, the first
  bool draw_boxes = true;
  bool operator==(const Evaluation&) const = default;
};

struct LoraRecipe {
  int64_t rank = 8;
  double alpha = 32;
  double dropout = 0;
  std::vector<std::string> targets = {"all-linear"};  // core/checkpoint/lora.h
  bool operator==(const LoraRecipe&) const = default;
};

struct Recipe {
  std::string name;
  Stage stage = Stage::kSft;
  ModelSource model;
  std::vector<DataSource> data;

  int64_t max_length = 4096;  // tokens of a sequence, pictures included
  bool packing = true;
  bool mask_prompt = true;
  OverLong over_long = OverLong::kTruncate;
  BadRecords bad_records = BadRecords::kSkip;

  bool label_pictures = false;  // tokens of pictures learn what records say of their regions
  int64_t batch_size = 64;      // sequences of an optimiser step
  int64_t micro_batch = 1;      // sequences of a forward and backward pass
  int64_t replicas = 1;         // passes side by side, each with its share of the threads
  // Exactly one is set.
  std::optional<int64_t> steps, tokens;
  std::optional<double> epochs;

  double learning_rate = 0;
  double vision_lr_multiplier = 0.1;
  double projector_lr_multiplier = 1;
  Scheduler scheduler;
  // At most one is set; neither: default_warmup().
  std::optional<double> warmup_ratio;
  std::optional<int64_t> warmup_steps;

  double weight_decay = 0.1;
  std::vector<std::string> no_decay;  // name patterns, beside every 1-D tensor
  OptimizerType optimizer = OptimizerType::kAdamW;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double grad_clip = 1;  // 0: none
  ComputeType compute = ComputeType::kBf16;
  bool bf16_optimizer = false;  // moments in bf16, rounded stochastically

  std::vector<std::string> freeze;  // "vision", "projector", "language" or name patterns
  double aux_loss_alpha = 0.001;
  bool seq_aux = true;          // balance loss of each sequence; false: of the batch
  double expert_bias_step = 0;  // sigmoid routers only
  Recompute recompute;

  int64_t max_bad_steps = 5;  // steps in a row whose loss or gradient is not finite
  int64_t seed = 0;
  int64_t workers = 1;          // threads that read and tile pictures
  int64_t threads = 0;          // of the computation; 0: all cores
  std::string device = "auto";  // "cpu", "cuda", "cuda:N"; auto: a GPU where libtorch finds one
  int64_t log_every = 1;
  int64_t save_every = 500;  // steps; 0: at the end only
  int64_t keep = 3;          // checkpoints
  Evaluation eval;
  std::optional<LoraRecipe> lora;  // set exactly in the stage lora
  std::string output;              // the run's folder
  bool operator==(const Recipe&) const = default;
};

// `where` names the file in errors; `overrides` are "key.path=value" (list elements by number), the value as JSON where
// it is JSON and a string otherwise. kCorrupt: what is wrong, with the key's path. kInvalidArgument: a malformed
// override.
Recipe parse_recipe(std::string_view json, const std::string& where, std::span<const std::string> overrides = {});
Recipe load_recipe(const std::filesystem::path& file, std::span<const std::string> overrides = {});

// Every field, also those that have their defaults; parse_recipe gives the same recipe back.
std::string recipe_json(const Recipe& recipe);

// How much data there is, once its headers were read.
struct DataSize {
  int64_t sequences = 0;           // of an epoch: packs, or samples without packing
  double tokens_per_sequence = 0;  // mean; 0: unknown, taken as max_length
};
// Optimiser steps of the whole run, at least 1. Tokens count as trained on: sequences of their mean length.
int64_t resolve_steps(const Recipe& recipe, const DataSize& data);

// What the recipe says, or else 2% of the steps and at least 100 (spec 2 leaves it open), but no more than a tenth of a
// short run.
int64_t resolve_warmup(const Recipe& recipe, int64_t steps);

}  // namespace vl2::train
