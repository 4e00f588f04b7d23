// A folder of tokenizer files learnt from training records.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/tokenizer/train_bpe.h"

namespace vl2::data {

struct TokenizerReport {
  int64_t records = 0, skipped = 0, bytes = 0;  // read, unreadable, of text
  int64_t vocab_size = 0;                       // may be less than asked for, when the texts repeat too little
};

// Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json into `folder`, which is created; each is
// atomic. Special tokens inside of the turns are cut out. kNotFound, kIo; kInvalidArgument: no record could be read.
TokenizerReport learn_tokenizer(const std::vector<std::filesystem::path>& records, const std::filesystem::path& folder,
                                const BpeOptions& options);

}  // namespace vl2::data
