// V: vision tokens of all tiles, S: rows of all images' sequences, D: hidden size.
#include "train/model/visual_sequence.h"

#include <ATen/ATen.h>

namespace vl2::train {

int64_t num_visual_tokens(int64_t tiles_wide, int64_t tiles_high, int64_t side) {
  return side * (side + 1) + 1 + tiles_high * side * (tiles_wide * side + 1);
}

at::Tensor visual_sequence(const ModelContext& context, const at::Tensor& tokens_VD,
                           std::span<const TiledImage> images) {
  const int64_t side = context.config().tokens_per_side(), width = tokens_VD.size(1);
  std::vector<int64_t> token_of;  // of every row; -1: no token
  std::vector<int64_t> row_of(static_cast<size_t>(tokens_VD.size(0)), -1);
  std::vector<int64_t> newlines, separators;

  // A raster of tiles, each row of tokens followed by a newline.
  const auto lay = [&](int64_t first_tile, int64_t wide, int64_t high) {
    for (int64_t y = 0; y < high * side; ++y) {
      for (int64_t x = 0; x < wide * side; ++x) {
        const int64_t tile = first_tile + y / side * wide + x / side;
        const int64_t token = (tile * side + y % side) * side + x % side;
        row_of[static_cast<size_t>(token)] = static_cast<int64_t>(token_of.size());
        token_of.push_back(token);
      }
      newlines.push_back(static_cast<int64_t>(token_of.size()));
      token_of.push_back(-1);
    }
  };
  const auto separate = [&] {
    separators.push_back(static_cast<int64_t>(token_of.size()));
    token_of.push_back(-1);
  };
  int64_t tile = 0;
  for (const TiledImage& image : images) {
    if (context.config().global_view_first) {
      lay(tile, 1, 1);
      separate();
      lay(tile + 1, image.tiles_wide, image.tiles_high);
    } else {
      lay(tile + 1, image.tiles_wide, image.tiles_high);
      separate();
      lay(tile, 1, 1);
    }
    tile += image.num_tiles();
  }

  const at::Device device = tokens_VD.device();
  at::Tensor out_SD = move_rows(tokens_VD, RowMap(token_of, device), RowMap(row_of, device));
  const auto fill = [&](const std::vector<int64_t>& rows, const std::string& name) {
    const at::Tensor row_D = context.weight(name);
    out_SD = out_SD.index_copy(0, to_tensor(rows, device), row_D.expand({static_cast<int64_t>(rows.size()), width}));
  };
  fill(newlines, "image_newline");
  fill(separators, "view_seperator");
  return out_SD;
}

}  // namespace vl2::train
