// Answers a file of records with a model folder, for a comparison with the engine's answers.
#pragma once

#include <cstdint>
#include <filesystem>

namespace vl2::train {

struct AnswerFileOptions {
  std::filesystem::path model, records, output;
  std::filesystem::path lora;  // empty: none
  int64_t max_tokens = 256;
  bool bf16 = false;
  int threads = 0;  // 0: all cores
};

// One line a record, in their order: answer_json(), or {"id", "error"} for a record that cannot be asked. The file is
// written when all are done. kNotFound, kCorrupt, kIo.
void answer_file(const AnswerFileOptions& options);

}  // namespace vl2::train
