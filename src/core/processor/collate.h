// Several prompts as one rectangle, padded on the left, as the reference feeds its model.
//
// The engine needs none of this: it runs sequences of different lengths side by side. Trainers and comparisons with the
// reference do. Pure function: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/processor/multimodal_prompt.h"

namespace vl2 {

// B prompts of at most T tokens with at most N pictures (at least 1) of at most K tiles together (at least 1).
struct PromptBatch {
  int64_t batch = 0;                                        // B
  int64_t length = 0;                                       // T
  int64_t max_images = 0;                                   // N
  int64_t max_tiles = 0;                                    // K
  std::vector<int32_t> input_ids;                           // [B, T], pad in front
  std::vector<int32_t> labels;                              // [B, T], -100 in front
  std::vector<uint8_t> attention_mask;                      // [B, T], 0 in front
  std::vector<uint8_t> images_seq_mask;                     // [B, T], 0 in front
  std::vector<std::array<int64_t, 2>> images_spatial_crop;  // [B, N], tiles (wide, high); {0, 0} behind the last
  std::vector<int64_t> lengths;                             // [B], without padding
};

// kInvalidArgument: no prompts, or one whose ids, labels and mask differ in length.
PromptBatch collate(std::span<const MultimodalPrompt> prompts, int32_t pad_id);

}  // namespace vl2
