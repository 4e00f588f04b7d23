// What one forward and backward pass of the trainer works on: the samples of a micro-batch one behind the other,
// without padding between them. Attention never crosses from one sample into another (spec training 4), so a sample's
// loss does not depend on what lies beside it.
//
// Plain data without libtorch, made by worker threads, read by train/model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/processor/multimodal_prompt.h"

namespace vl2::train {

inline constexpr int32_t kIgnoredLabel = -100;

struct MicroBatch {
  std::vector<int32_t> input_ids;      // [T]
  std::vector<int32_t> labels;         // [T], the token itself, before the shift; ignored at a sample's first token
  std::vector<int32_t> positions;      // [T], from 0 within each sample
  std::vector<uint8_t> vision_mask;    // [T], 1 where a vision token replaces the embedding
  std::vector<uint8_t> key_mask;       // [T], 0 where no query may look; empty: all may be seen
  std::vector<int64_t> sample_starts;  // [samples + 1], the last is T: the blocks of attention
  std::vector<int64_t> row_starts;  // [rows + 1], the last is T: sequences of the balance loss, each of whole samples
  std::vector<TiledImage> images;   // with pixels, in order of their placeholders
  std::vector<std::string> record_ids;  // one a sample, for messages

  int64_t num_tokens() const { return static_cast<int64_t>(input_ids.size()); }
  int64_t num_samples() const { return static_cast<int64_t>(record_ids.size()); }
};

}  // namespace vl2::train
