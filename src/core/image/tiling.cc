#include "core/image/tiling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "core/base/error.h"
#include "core/image/resize.h"

namespace vl2 {
namespace {

constexpr uint8_t kPadColour = 127;  // trunc(255 * image_mean)
constexpr int64_t kMaxSide = int64_t{1} << 30;
constexpr int64_t kMaxTileBytes = int64_t{1} << 30;

void check_sides(int64_t width, int64_t height, const char* what) {
  if (width <= 0 || height <= 0 || width > kMaxSide || height > kMaxSide)
    fail(ErrorCode::kInvalidArgument, "{}: {} x {}, expected two sides between 1 and {}", what, width, height,
         kMaxSide);
}

// Half to even, whatever the rounding mode of the thread is.
int64_t round_half_even(double value) {
  const double below = std::floor(value);
  const double rest = value - below;
  const auto whole = static_cast<int64_t>(below);
  if (rest != 0.5) return rest < 0.5 ? whole : whole + 1;
  return whole % 2 == 0 ? whole : whole + 1;
}

void copy_tile(const Image& canvas, int64_t left, int64_t top, int64_t tile_size, uint8_t* out) {
  const size_t tile_row = static_cast<size_t>(tile_size) * 3;
  for (int64_t y = 0; y < tile_size; ++y, out += tile_row)
    std::memcpy(out, canvas.row(top + y) + static_cast<size_t>(left) * 3, tile_row);
}

}  // namespace

std::pair<int64_t, int64_t> best_resolution(int64_t original_width, int64_t original_height,
                                            const Resolutions& candidates) {
  check_sides(original_width, original_height, "size of the picture");
  if (candidates.empty()) fail(ErrorCode::kInvalidArgument, "candidate_resolutions: empty, expected at least one");
  std::pair<int64_t, int64_t> best{0, 0};
  int64_t best_effective = -1;
  int64_t best_wasted = std::numeric_limits<int64_t>::max();
  for (const auto& [width, height] : candidates) {
    check_sides(width, height, "candidate_resolutions");
    const double scale = std::min(static_cast<double>(width) / static_cast<double>(original_width),
                                  static_cast<double>(height) / static_cast<double>(original_height));
    const auto fitted_width = static_cast<int64_t>(static_cast<double>(original_width) * scale);
    const auto fitted_height = static_cast<int64_t>(static_cast<double>(original_height) * scale);
    const int64_t effective = std::min(fitted_width * fitted_height, original_width * original_height);
    const int64_t wasted = width * height - effective;
    if (effective > best_effective || (effective == best_effective && wasted < best_wasted)) {
      best = {width, height};
      best_effective = effective;
      best_wasted = wasted;
    }
  }
  return best;
}

TileGrid choose_grid(int64_t original_width, int64_t original_height, const Resolutions& candidates,
                     bool dynamic_tiling) {
  const auto [width, height] = best_resolution(original_width, original_height, candidates);
  if (!dynamic_tiling) return {1, 1};
  const int64_t tile_size = candidates.front().first;
  if (width % tile_size != 0 || height % tile_size != 0)
    fail(ErrorCode::kInvalidArgument, "candidate_resolutions: {} x {} is no multiple of the tile size {}", width,
         height, tile_size);
  return {width / tile_size, height / tile_size};
}

PadPlan plan_pad(int64_t original_width, int64_t original_height, int64_t width, int64_t height) {
  check_sides(original_width, original_height, "size of the picture");
  check_sides(width, height, "size of the canvas");
  const auto ow = static_cast<double>(original_width), oh = static_cast<double>(original_height);
  const auto w = static_cast<double>(width), h = static_cast<double>(height);
  PadPlan plan{width, height, 0, 0};
  if (ow / oh > w / h) {
    plan.new_h = round_half_even(oh / ow * w);
  } else if (ow / oh < w / h) {
    plan.new_w = round_half_even(ow / oh * h);
  }
  if (plan.new_w != width) {
    plan.x = round_half_even(static_cast<double>(width - plan.new_w) * 0.5);
  } else if (plan.new_h != height) {
    plan.y = round_half_even(static_cast<double>(height - plan.new_h) * 0.5);
  }
  return plan;
}

void check_can_tile(int64_t original_width, int64_t original_height, TileGrid grid, int64_t tile_size,
                    const std::string& where) {
  const TileGrid one;
  for (const TileGrid canvas : {one, grid}) {
    const int64_t width = tile_size * canvas.wide, height = tile_size * canvas.high;
    const PadPlan plan = plan_pad(original_width, original_height, width, height);
    if (plan.new_w == 0 || plan.new_h == 0)
      fail(ErrorCode::kInvalidArgument,
           "{}: {} x {} pixels is too thin: fitted into {} x {} one side rounds to 0; crop or stretch the picture",
           where, original_width, original_height, width, height);
  }
}

Image fit_and_pad(const Image& image, int64_t width, int64_t height) {
  check_image(image);
  const PadPlan plan = plan_pad(image.width, image.height, width, height);
  VL2_CHECK(plan.new_w > 0 && plan.new_h > 0, "{} x {} picture on a {} x {} canvas; check_can_tile() first",
            image.width, image.height, width, height);
  Image fitted = resize_bicubic(image, plan.new_w, plan.new_h);
  if (plan.new_w == width && plan.new_h == height) return fitted;
  Image canvas = make_image(width, height, kPadColour, kPadColour, kPadColour);
  for (int64_t y = 0; y < plan.new_h; ++y)
    std::memcpy(canvas.row(plan.y + y) + static_cast<size_t>(plan.x) * 3, fitted.row(y), fitted.row_bytes());
  return canvas;
}

std::vector<uint8_t> cut_tiles(const Image& image, TileGrid grid, int64_t tile_size) {
  check_image(image);
  const bool sane =
      grid.wide > 0 && grid.high > 0 && tile_size > 0 && grid.wide <= 4096 && grid.high <= 4096 && tile_size <= 8192;
  if (!sane || grid.num_tiles() > kMaxTileBytes / (tile_size * tile_size * 3))
    fail(ErrorCode::kInvalidArgument, "grid of {} x {} tiles of {} pixels: expected positive and at most {} bytes",
         grid.wide, grid.high, tile_size, kMaxTileBytes);
  check_can_tile(image.width, image.height, grid, tile_size, "picture");

  const size_t tile_bytes = static_cast<size_t>(tile_size * tile_size * 3);
  std::vector<uint8_t> tiles(static_cast<size_t>(grid.num_tiles()) * tile_bytes);
  const Image global = fit_and_pad(image, tile_size, tile_size);
  copy_tile(global, 0, 0, tile_size, tiles.data());
  uint8_t* out = tiles.data() + tile_bytes;
  if (grid == TileGrid{1, 1}) {
    copy_tile(global, 0, 0, tile_size, out);
    return tiles;
  }
  const Image canvas = fit_and_pad(image, tile_size * grid.wide, tile_size * grid.high);
  for (int64_t y = 0; y < grid.high; ++y)
    for (int64_t x = 0; x < grid.wide; ++x, out += tile_bytes)
      copy_tile(canvas, x * tile_size, y * tile_size, tile_size, out);
  return tiles;
}

int64_t num_vision_tokens(TileGrid grid, int64_t tokens_per_side) {
  const int64_t n = tokens_per_side;
  return n * (n + 1) + 1 + n * grid.high * (n * grid.wide + 1);
}

}  // namespace vl2
