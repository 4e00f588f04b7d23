#include "data/tokenizer/learn_tokenizer.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <variant>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/dataset/dataset_file.h"
#include "core/text/tokenizer.h"

namespace vl2::data {
namespace {

// As the model's prompts count it.
constexpr int64_t kMaxLength = 4096;

void add_without_markup(BpeTrainer& trainer, std::string_view text) {
  while (!text.empty()) {
    size_t at = text.size(), length = 0;
    for (const std::string& token : trailing_special_tokens()) {
      const size_t found = text.find(token);
      if (found >= at) continue;
      at = found;
      length = token.size();
    }
    if (at > 0) trainer.add(text.substr(0, at));
    text.remove_prefix(at + length);
  }
}

}  // namespace

TokenizerReport learn_tokenizer(const std::vector<std::filesystem::path>& records, const std::filesystem::path& folder,
                                const BpeOptions& options) {
  BpeTrainer trainer;
  TokenizerReport report;
  for (const std::filesystem::path& path : records) {
    const DatasetFile file(path);
    for (int64_t i = 0; i < file.size(); ++i) {
      const auto record = file.read(i);
      if (!std::holds_alternative<TrainingRecord>(record)) {
        ++report.skipped;
        continue;
      }
      ++report.records;
      for (const TrainingTurn& turn : std::get<TrainingRecord>(record).turns) {
        add_without_markup(trainer, turn.content);
        report.bytes += static_cast<int64_t>(turn.content.size());
      }
    }
  }
  if (report.records == 0)
    fail(ErrorCode::kInvalidArgument, "none of the {} records could be read; name files of training records",
         report.skipped);
  const std::string json = trainer.tokenizer_json(options);
  report.vocab_size = Tokenizer::parse(json, "the new tokenizer").vocab_size();
  std::filesystem::create_directories(folder);
  write_file_atomic(folder / "tokenizer.json", json);
  write_file_atomic(folder / "tokenizer_config.json", tokenizer_config_json(kMaxLength));
  write_file_atomic(folder / "special_tokens_map.json", special_tokens_map_json());
  return report;
}

}  // namespace vl2::data
