// What the model is fed: token ids with image placeholders, and the tiles that fill them. Every count is known here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vl2 {

// One picture cut up: the global view first, then local tiles row-major.
struct TiledImage {
  int64_t original_width = 0;
  int64_t original_height = 0;
  int64_t tiles_wide = 1;
  int64_t tiles_high = 1;
  int64_t tile_size = 0;        // pixels a side
  std::vector<uint8_t> pixels;  // [1 + tiles_wide * tiles_high][tile_size][tile_size][3], RGB

  int64_t num_tiles() const { return 1 + tiles_wide * tiles_high; }
};

struct MultimodalPrompt {
  std::vector<int32_t> input_ids;         // placeholders repeated to the exact number of vision tokens
  std::vector<int32_t> labels;            // training targets before the shift, -100 where ignored; same length
  std::vector<uint8_t> images_seq_mask;   // 1 where a vision token replaces the embedding
  std::vector<TiledImage> images;         // in order of their placeholders; pixels empty when only sizes were given
  std::vector<int64_t> num_image_tokens;  // per image
  std::vector<int64_t> message_ends;      // per message: tokens of the prompt up to its last; empty without messages
};

}  // namespace vl2
