#include "engine/runtime/vision_stage.h"

#include <algorithm>
#include <numeric>

#include "core/image/normalize.h"

namespace vl2 {

std::vector<VisionStage::Part> VisionStage::next_tiles(std::span<Sequence* const> sequences) const {
  std::vector<Part> parts;
  int64_t left = DeepseekVl2::kTilesAtOnce;
  for (Sequence* s : sequences) {
    const int64_t tiles = std::min(left, s->vision.num_tiles - s->vision.tiles_done);
    if (tiles > 0) parts.push_back({s, tiles});
    left -= tiles;
  }
  return parts;
}

void VisionStage::append_pixels(const Part& part) {
  const int64_t size = model_.config().vision.image_size, values = 3 * size * size;
  const int64_t begin = part.sequence->vision.tiles_done, end = begin + part.tiles;
  int64_t first = 0;  // tile of the picture at hand
  for (const TiledImage& image : part.sequence->request().prompt.images) {
    const int64_t last = first + image.num_tiles();
    for (int64_t tile = std::max(begin, first); tile < std::min(end, last); ++tile) {
      pixels_.resize(pixels_.size() + static_cast<size_t>(values));
      const std::span<const uint8_t> bytes(image.pixels);
      normalize(bytes.subspan(static_cast<size_t>((tile - first) * values), static_cast<size_t>(values)), size,
                &pixels_[pixels_.size() - static_cast<size_t>(values)]);
    }
    first = last;
  }
}

void VisionStage::assemble(Sequence& sequence) const {
  SequenceVision& v = sequence.vision;
  std::vector<ImageGrid> grids;
  for (const TiledImage& image : sequence.request().prompt.images)
    grids.push_back({image.tiles_wide, image.tiles_high});
  const auto rows = static_cast<int64_t>(sequence.vision_places(0, sequence.prompt_tokens).size());
  v.feature_memory = std::make_unique<Workspace>();
  v.features_SD = v.feature_memory->tensor(rows, model_.config().language.hidden_size);
  model_.assemble_images(v.tokens_VD, grids, v.features_SD);
}

int64_t VisionStage::encode(std::span<Sequence* const> sequences) {
  const std::vector<Part> parts = next_tiles(sequences);
  const int64_t side = model_.config().tokens_per_side(), tile_tokens = side * side;
  const int64_t width = model_.config().projector.n_embed;
  int64_t tiles = 0;
  pixels_.clear();
  for (const Part& part : parts) {
    append_pixels(part);
    tiles += part.tiles;
  }
  if (tiles == 0) return 0;

  Ops& ops = model_.ops();
  Workspace::Scope scope(ops.workspace());
  Tensor tokens_VD = ops.workspace().tensor(tiles * tile_tokens, width);
  model_.encode_tiles(pixels_, tokens_VD);
  int64_t row = 0;
  for (const Part& part : parts) {
    SequenceVision& v = part.sequence->vision;
    if (v.token_memory == nullptr) {
      v.token_memory = std::make_unique<Workspace>();
      v.tokens_VD = v.token_memory->tensor(v.num_tiles * tile_tokens, width);
    }
    std::vector<int32_t> places(static_cast<size_t>(part.tiles * tile_tokens));
    std::iota(places.begin(), places.end(), static_cast<int32_t>(v.tiles_done * tile_tokens));
    ops.scatter_rows(v.tokens_VD, tokens_VD.row_range(row, part.tiles * tile_tokens), places);
    row += part.tiles * tile_tokens;
    if (v.tiles_done + part.tiles == v.num_tiles) assemble(*part.sequence);
  }
  for (const Part& part : parts) {
    Sequence& s = *part.sequence;
    s.vision.tiles_done += part.tiles;
    if (s.vision.tiles_done < s.vision.num_tiles) continue;
    s.vision.token_memory.reset();
    s.drop_pixels();
    s.encoded = true;
    s.pictures_encoded();
  }
  return tiles;
}

}  // namespace vl2
