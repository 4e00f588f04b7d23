// The checkpoints of a run: RUN/step-000123/, and RUN/latest, a link to one of them.
//
//   step-000123/  the model as any other tool loads it (config.json, safetensors, tokenizer files), or an adapter
//                 state.safetensors   tensors of the optimiser, of random number generators
//                 state.json          the rest: schedule, position of the sampler, counters
//                 checkpoint.json     step, and every file with its size: what "whole" means
//
// A checkpoint is written into a hidden folder, brought to disk, and renamed; `latest` is replaced after that, and old
// ones are deleted last. A stop at any moment, by kill -9 or the power cord, leaves what was there before or the new
// one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/model_spec/model_config.h"

namespace vl2::train {

struct CheckpointContent {
  // Writes config.json and weights, or an adapter, into the folder it is given.
  std::function<void(const std::filesystem::path& folder)> write_model;
  std::vector<NamedTensor> tensors;  // state.safetensors; views the caller keeps alive
  std::string state_json;
  std::filesystem::path files_from;  // tokenizer and processor files are copied from here; empty: none
};

// Owns the mapped state; the weights are opened from `folder` by whoever needs them.
struct LoadedCheckpoint {
  std::filesystem::path folder;
  int64_t step = 0;
  std::unique_ptr<SafetensorsFile> tensors;
  std::string state_json;
};

// One thread. One process writes to a run.
class RunCheckpoints {
 public:
  // `keep` >= 1: the newest so many stay. Neither has to exist.
  RunCheckpoints(std::filesystem::path run, int64_t keep);

  // When it returns, the checkpoint is on disk and `latest` names it. An older one of the same step is replaced. Throws
  // what write_model throws and kIo (a full disk); what was there before is then untouched.
  void write(int64_t step, const CheckpointContent& content);

  // The one `latest` names; where that is broken, the newest whole one, and `warn` is told what is wrong with each that
  // was passed over. nullopt: the run has none at all. kCorrupt: it has some, all broken. kInvalidArgument: a whole one
  // of another architecture than `expected`, with what differs.
  std::optional<LoadedCheckpoint> load(const ModelConfig& expected,
                                       const std::function<void(const std::string&)>& warn) const;

  // Steps that have a folder, ascending.
  std::vector<int64_t> steps() const;
  std::filesystem::path folder_of(int64_t step) const;

 private:
  void replace_latest(int64_t step) const;
  void delete_old(int64_t newest) const;
  void delete_leftovers() const;
  std::optional<int64_t> latest_step() const;

  std::filesystem::path run_;
  int64_t keep_;
};

// "language.num_hidden_layers is 4, expected 6" for every key of config.json that differs; empty: none.
std::vector<std::string> config_differences(const ModelConfig& found, const ModelConfig& expected);

// config.json and weights in shards, as the releases lie.
void write_model_files(const std::filesystem::path& folder, const ModelConfig& config,
                       std::span<const TensorHeader> headers, const FillTensor& fill);

}  // namespace vl2::train
