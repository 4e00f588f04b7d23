#include "engine/runtime/vision_stage.h"

#include <algorithm>
#include <numeric>

#include "core/image/normalize.h"
#include "engine/model/visual_sequence.h"

namespace vl2 {

void VisionStage::look_up(std::span<Sequence* const> sequences) {
  for (Sequence* s : sequences)
    for (size_t i = 0; i < s->pictures.size(); ++i) {
      SequencePicture& p = s->pictures[i];
      const TiledImage& image = s->request().prompt.images[i];
      if (p.end <= s->past) {
        p.picture.reset();
      } else if (p.picture == nullptr) {
        p.picture = cache_.get(p.key, {image.tiles_wide, image.tiles_high});
      }
    }
}

std::vector<VisionStage::Tile> VisionStage::next_tiles(std::span<Sequence* const> sequences, int64_t most_tiles) const {
  const int64_t size = model_.config().vision.image_size;
  const auto bytes = static_cast<size_t>(3 * size * size);
  std::vector<Tile> tiles;
  std::vector<const Picture*> seen;
  int64_t left = most_tiles;
  for (Sequence* s : sequences) {
    for (size_t i = 0; i < s->pictures.size(); ++i) {
      const Picture* picture = s->pictures[i].picture.get();
      if (picture == nullptr || std::find(seen.begin(), seen.end(), picture) != seen.end()) continue;
      seen.push_back(picture);
      const std::span<const uint8_t> all = s->request().prompt.images[i].pixels;
      for (int64_t t = picture->tiles_done; t < picture->grid.num_tiles(); ++t) {
        const auto pixels = all.subspan(static_cast<size_t>(t) * bytes, bytes);
        const bool again = t == 1 && std::ranges::equal(pixels, all.first(bytes));
        if (!again && left-- == 0) return tiles;
        tiles.push_back({&s->pictures[i], t, again ? std::span<const uint8_t>() : pixels});
      }
    }
  }
  return tiles;
}

void VisionStage::assemble(Picture& p) const {
  const int64_t rows = num_visual_tokens(p.grid.tiles_wide, p.grid.tiles_high, model_.config().tokens_per_side());
  p.feature_memory = std::make_unique<Workspace>(model_.ops().memory());
  p.features_SD = p.feature_memory->tensor(rows, model_.config().language.hidden_size);
  model_.assemble_images(p.tokens_VD, {&p.grid, 1}, p.features_SD);
}

int64_t VisionStage::encode(std::span<Sequence* const> sequences, int64_t most_tiles) {
  const std::vector<Tile> tiles = next_tiles(sequences, most_tiles);
  const int64_t side = model_.config().tokens_per_side(), tile_tokens = side * side;
  const int64_t size = model_.config().vision.image_size, values = 3 * size * size;
  const int64_t width = model_.config().projector.n_embed;
  int64_t encoded = 0;
  pixels_.clear();
  for (const Tile& tile : tiles) {
    if (tile.pixels.empty()) continue;
    pixels_.resize(static_cast<size_t>(++encoded * values));
    normalize(tile.pixels, size, &pixels_[pixels_.size() - static_cast<size_t>(values)]);
  }

  Ops& ops = model_.ops();
  Workspace::Scope scope(ops.workspace());
  Tensor tokens_VD = ops.workspace().tensor(encoded * tile_tokens, width);
  if (encoded > 0) model_.encode_tiles(pixels_, tokens_VD);
  int64_t next = 0;
  for (const Tile& tile : tiles) {
    Picture& p = *tile.place->picture;
    if (p.token_memory == nullptr) {
      p.token_memory = std::make_unique<Workspace>(ops.memory());
      p.tokens_VD = p.token_memory->tensor(p.grid.num_tiles() * tile_tokens, width);
    }
    const Tensor rows = tile.pixels.empty() ? p.tokens_VD.row_range((tile.number - 1) * tile_tokens, tile_tokens)
                                            : tokens_VD.row_range(next++ * tile_tokens, tile_tokens);
    std::vector<int32_t> places(static_cast<size_t>(tile_tokens));
    std::iota(places.begin(), places.end(), static_cast<int32_t>(tile.number * tile_tokens));
    ops.scatter_rows(p.tokens_VD, rows, places);
    if (tile.number + 1 == p.grid.num_tiles()) assemble(p);
  }
  for (const Tile& tile : tiles) {
    Picture& p = *tile.place->picture;
    p.tiles_done = tile.number + 1;
    if (!p.encoded()) continue;
    p.token_memory.reset();
    if (tile.place->key) cache_.keep(*tile.place->key, tile.place->picture);
  }
  for (Sequence* s : sequences)
    if (std::ranges::all_of(s->pictures, [](const auto& p) { return p.picture == nullptr || p.picture->encoded(); }))
      s->encode_until = 0;
  return encoded;
}

}  // namespace vl2
