// From a picture to the tiles the vision encoder sees: which grid, how it is fitted and padded, how it is cut
// (spec/model.md 2).
//
// Pure functions of their arguments: any thread. Sides in pixels, grids in tiles, always (width, height).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/image/image.h"

namespace vl2 {

struct TileGrid {
  int64_t wide = 1;
  int64_t high = 1;

  int64_t num_tiles() const { return 1 + wide * high; }  // with the global view
  bool operator==(const TileGrid&) const = default;
};

// candidate_resolutions of the config, as (width, height); the first one's width is the tile size.
using Resolutions = std::vector<std::pair<int64_t, int64_t>>;

// The candidate that keeps most of the original pixels, then wastes least; the earlier one of equals (2.3).
std::pair<int64_t, int64_t> best_resolution(int64_t original_width, int64_t original_height,
                                            const Resolutions& candidates);

// 1 x 1 unless dynamic_tiling, which the caller grants when the whole conversation has at most two images (2.8).
TileGrid choose_grid(int64_t original_width, int64_t original_height, const Resolutions& candidates,
                     bool dynamic_tiling);

// Where a picture lands on a canvas of width x height when it is fitted without distortion and centred (2.4).
// new_w or new_h is 0 for a picture too thin for the canvas: check_can_tile() refuses those.
struct PadPlan {
  int64_t new_w = 0;
  int64_t new_h = 0;
  int64_t x = 0;
  int64_t y = 0;
  bool operator==(const PadPlan&) const = default;
};
PadPlan plan_pad(int64_t original_width, int64_t original_height, int64_t width, int64_t height);

// kInvalidArgument, with `where` in front, if a side of the picture would round to 0 pixels in the global view or on
// the grid.
void check_can_tile(int64_t original_width, int64_t original_height, TileGrid grid, int64_t tile_size,
                    const std::string& where);

// The picture fitted on a canvas of the pad colour (127, 127, 127).
Image fit_and_pad(const Image& image, int64_t width, int64_t height);

// [grid.num_tiles()][tile_size][tile_size][3]: the global view, then local tiles row by row (2.7).
// Errors: kInvalidArgument as check_can_tile(), or for a grid whose tiles would not fit in 1 GiB.
std::vector<uint8_t> cut_tiles(const Image& image, TileGrid grid, int64_t tile_size);

// Tokens one image takes in the prompt; tokens_per_side is the projector's output grid (14): 2.9.
int64_t num_vision_tokens(TileGrid grid, int64_t tokens_per_side);

}  // namespace vl2
