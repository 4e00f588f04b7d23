// Pictures of running sequences on their way through the vision encoder, a few tiles at a time, so that others' answers
// go on in between and a cancelled request costs no more than it has to.
//
// Borrows model, cache and sequences; the engine's thread only.
#pragma once

#include <span>
#include <vector>

#include "engine/model/deepseek_vl2.h"
#include "engine/runtime/picture_cache.h"
#include "engine/runtime/sequence.h"

namespace vl2 {

class VisionStage {
 public:
  VisionStage(const DeepseekVl2& model, PictureCache& cache) : model_(model), cache_(cache) {}

  // Gives the sequences' pictures their places in the cache, or what it has of them. Before encode().
  //
  // Pictures that stand before what a sequence has in the cache are not asked for.
  void look_up(std::span<Sequence* const> sequences);

  // Encodes the next tiles, whosever they are, at most `most_tiles` together, and marks the sequences whose pictures
  // are complete as encoded. Returns the number of tiles: none where all there was to do lay in the cache. When it
  // throws, no sequence and no picture has changed.
  //
  // The one local tile of a picture that is not cut is its global view once more: it is encoded once and used twice.
  int64_t encode(std::span<Sequence* const> sequences, int64_t most_tiles);

 private:
  struct Tile {
    SequencePicture* place;
    int64_t number;                   // in the picture
    std::span<const uint8_t> pixels;  // empty: the tile before it once more
  };
  std::vector<Tile> next_tiles(std::span<Sequence* const> sequences, int64_t most_tiles) const;
  void assemble(Picture& picture) const;

  const DeepseekVl2& model_;
  PictureCache& cache_;
  std::vector<float> pixels_;
};

}  // namespace vl2
