#include "engine/model/visual_sequence.h"

#include <vector>

namespace vl2 {

int64_t num_visual_tokens(int64_t tiles_wide, int64_t tiles_high, int64_t side) {
  return side * (side + 1) + 1 + tiles_high * side * (tiles_wide * side + 1);
}

void visual_sequence(const ModelContext& context, const ProjectorWeights& weights, Tensor tokens_VD, int64_t tiles_wide,
                     int64_t tiles_high, Tensor out_SD) {
  const int64_t side = context.config.tokens_per_side();
  VL2_CHECK(out_SD.rows == num_visual_tokens(tiles_wide, tiles_high, side) &&
            tokens_VD.rows == (1 + tiles_wide * tiles_high) * side * side);
  std::vector<int32_t> place(static_cast<size_t>(tokens_VD.rows));  // of every token in the sequence
  std::vector<int64_t> newlines;
  int64_t next = 0;

  // A raster of tiles, each row of tokens followed by a newline.
  const auto lay = [&](int64_t first_tile, int64_t wide, int64_t high) {
    for (int64_t y = 0; y < high * side; ++y) {
      for (int64_t x = 0; x < wide * side; ++x) {
        const int64_t tile = first_tile + y / side * wide + x / side;
        place[static_cast<size_t>((tile * side + y % side) * side + x % side)] = static_cast<int32_t>(next++);
      }
      newlines.push_back(next++);
    }
  };
  int64_t separator = 0;
  if (context.config.global_view_first) {
    lay(0, 1, 1);
    separator = next++;
    lay(1, tiles_wide, tiles_high);
  } else {
    lay(1, tiles_wide, tiles_high);
    separator = next++;
    lay(0, 1, 1);
  }
  context.ops.scatter_rows(out_SD, tokens_VD, place);
  for (int64_t row : newlines) context.ops.fill_row(out_SD, row, weights.image_newline);
  context.ops.fill_row(out_SD, separator, weights.view_separator);
}

}  // namespace vl2
