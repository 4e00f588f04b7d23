#include "core/text/incremental_decoder.h"

namespace vl2 {

std::string IncrementalDecoder::push(int32_t id) {
  std::string text;
  if (!skip_special_ || !tokenizer_->is_special(id)) repair_.append(tokenizer_->token_text(id), text);
  return text;
}

std::string IncrementalDecoder::finish() {
  std::string text;
  repair_.finish(text);
  return text;
}

}  // namespace vl2
