// Ids to text, one id at a time: whole characters as soon as they are certain.
#pragma once

#include <cstdint>
#include <string>

#include "core/text/tokenizer.h"
#include "core/text/utf8.h"

namespace vl2 {

// Borrows the tokenizer, which must outlive it. One thread at a time.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // What became certain with this id, often nothing. Everything push() and finish() return, in order, is decode() of
  // all ids.
  std::string push(int32_t id);
  std::string finish();  // an unfinished character becomes U+FFFD; ready for a new text

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  Utf8Repair repair_;
};

}  // namespace vl2
