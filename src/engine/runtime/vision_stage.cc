#include "engine/runtime/vision_stage.h"

#include <algorithm>
#include <numeric>

#include "core/image/normalize.h"

namespace vl2 {

std::vector<VisionStage::Tile> VisionStage::next_tiles(std::span<Sequence* const> sequences) const {
  const int64_t size = model_.config().vision.image_size;
  const auto bytes = static_cast<size_t>(3 * size * size);
  std::vector<Tile> tiles;
  int64_t left = DeepseekVl2::kTilesAtOnce;
  for (Sequence* s : sequences) {
    int64_t number = 0;
    for (const TiledImage& image : s->request().prompt.images) {
      for (int64_t t = 0; t < image.num_tiles(); ++t, ++number) {
        if (number < s->vision.tiles_done) continue;
        const std::span<const uint8_t> pixels =
            std::span<const uint8_t>(image.pixels).subspan(static_cast<size_t>(t) * bytes, bytes);
        const bool again = t == 1 && std::ranges::equal(pixels, std::span(image.pixels).first(bytes));
        if (!again && left-- == 0) return tiles;
        tiles.push_back({s, number, again ? std::span<const uint8_t>() : pixels});
      }
    }
  }
  return tiles;
}

void VisionStage::assemble(Sequence& sequence) const {
  SequenceVision& v = sequence.vision;
  std::vector<ImageGrid> grids;
  for (const TiledImage& image : sequence.request().prompt.images)
    grids.push_back({image.tiles_wide, image.tiles_high});
  const auto rows = static_cast<int64_t>(sequence.vision_places(0, sequence.prompt_tokens).size());
  v.feature_memory = std::make_unique<Workspace>(model_.ops().memory());
  v.features_SD = v.feature_memory->tensor(rows, model_.config().language.hidden_size);
  model_.assemble_images(v.tokens_VD, grids, v.features_SD);
}

int64_t VisionStage::encode(std::span<Sequence* const> sequences) {
  const std::vector<Tile> tiles = next_tiles(sequences);
  if (tiles.empty()) return 0;
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
    SequenceVision& v = tile.sequence->vision;
    if (v.token_memory == nullptr) {
      v.token_memory = std::make_unique<Workspace>(ops.memory());
      v.tokens_VD = v.token_memory->tensor(v.num_tiles * tile_tokens, width);
    }
    const Tensor rows = tile.pixels.empty() ? v.tokens_VD.row_range((tile.number - 1) * tile_tokens, tile_tokens)
                                            : tokens_VD.row_range(next++ * tile_tokens, tile_tokens);
    std::vector<int32_t> places(static_cast<size_t>(tile_tokens));
    std::iota(places.begin(), places.end(), static_cast<int32_t>(tile.number * tile_tokens));
    ops.scatter_rows(v.tokens_VD, rows, places);
    if (tile.number + 1 == v.num_tiles) assemble(*tile.sequence);
  }
  for (const Tile& tile : tiles) {
    Sequence& s = *tile.sequence;
    s.vision.tiles_done = tile.number + 1;
    if (s.vision.tiles_done < s.vision.num_tiles) continue;
    s.vision.token_memory.reset();
    s.drop_pixels();
    s.encoded = true;
    s.pictures_encoded();
  }
  return encoded;
}

}  // namespace vl2
