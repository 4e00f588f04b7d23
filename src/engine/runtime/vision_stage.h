// Pictures of running sequences on their way through the vision encoder, a few tiles at a time, so that others' answers
// go on in between and a cancelled request costs no more than it has to.
//
// Borrows model and sequences; the engine's thread only.
#pragma once

#include <span>
#include <vector>

#include "engine/model/deepseek_vl2.h"
#include "engine/runtime/sequence.h"

namespace vl2 {

class VisionStage {
 public:
  explicit VisionStage(const DeepseekVl2& model) : model_(model) {}

  // Encodes the next tiles, whosever they are, at most kTilesAtOnce together, and marks the sequences whose pictures
  // are complete as encoded. Returns the number of tiles. When it throws, no sequence has changed.
  //
  // The one local tile of a picture that is not cut is its global view once more: it is encoded once and used twice.
  int64_t encode(std::span<Sequence* const> sequences);

 private:
  struct Tile {
    Sequence* sequence;
    int64_t number;                   // in the sequence
    std::span<const uint8_t> pixels;  // empty: the tile before it once more
  };
  std::vector<Tile> next_tiles(std::span<Sequence* const> sequences) const;
  void assemble(Sequence& sequence) const;

  const DeepseekVl2& model_;
  std::vector<float> pixels_;
};

}  // namespace vl2
