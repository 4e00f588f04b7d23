#include "train/loop/answer_file.h"

#include <ATen/Parallel.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/thread_pool.h"
#include "core/checkpoint/lora.h"
#include "core/dataset/dataset_file.h"
#include "train/loop/answer_record.h"
#include "train/loop/trained_adapters.h"

namespace vl2::train {

void answer_file(const AnswerFileOptions& options) {
  at::set_num_threads(options.threads > 0 ? options.threads : ThreadPool::default_num_threads());
  const Processor processor = Processor::open(options.model);
  Parameters parameters = Parameters::load(load_model_config(options.model / "config.json"),
                                           std::make_shared<const Checkpoint>(options.model));
  Adapters adapters;
  if (!options.lora.empty()) adapters = load_adapters(parameters, LoraAdapter(options.lora));
  const DeepseekVl2 model(parameters, &adapters);
  const DatasetFile records(options.records);
  std::string lines;
  for (int64_t i = 0; i < records.size(); ++i) {
    const auto record = records.read(i);
    const auto complain = [&](const std::string& id, const std::string& error) {
      lines += nlohmann::ordered_json{{"id", id}, {"error", error}}.dump() + "\n";
    };
    if (const auto* bad = std::get_if<BadRecord>(&record)) {
      complain(bad->where, bad->reason);
      continue;
    }
    const auto& good = std::get<TrainingRecord>(record);
    try {
      lines += answer_json(answer_record(model, processor, good, options.max_tokens,
                                         options.bf16 ? DType::kBF16 : DType::kF32)) +
               "\n";
    } catch (const Error& error) {
      complain(good.id.empty() ? good.where : good.id, error.what());
    }
  }
  write_file_atomic(options.output, lines);
}

}  // namespace vl2::train
