// Pictures as the model sees them: encoded, projected, laid out as they stand in a prompt. Whoever asks for the same
// picture shares it, also while it is on its way through the encoder; complete ones are kept until others need the
// room, the one asked for longest ago goes first.
//
// Owned by the engine; used by the engine's thread only.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>

#include "engine/model/deepseek_vl2.h"
#include "engine/ops/tensor.h"
#include "engine/runtime/prefix_keys.h"

namespace vl2 {

// Each stage frees what the one before it needed.
struct Picture {
  ImageGrid grid;
  int64_t tiles_done = 0;
  std::unique_ptr<Workspace> token_memory, feature_memory;
  Tensor tokens_VD;    // the projector's output of the tiles so far, [tiles * side * side, D]
  Tensor features_SD;  // its rows in a prompt

  bool encoded() const { return tiles_done == grid.num_tiles(); }
};

class PictureCache {
 public:
  // Holds at most so many bytes of features, besides those in use. 0: every picture asked for is a new one.
  explicit PictureCache(int64_t limit) : limit_(limit) {}

  std::shared_ptr<Picture> get(const std::optional<PictureKey>& key, const ImageGrid& grid);
  // It is encoded now.
  void keep(const PictureKey& key, const std::shared_ptr<Picture>& picture);

  int64_t bytes() const { return bytes_; }
  int64_t size() const { return static_cast<int64_t>(kept_.size()); }
  int64_t queries() const { return queries_; }
  int64_t hits() const { return hits_; }  // of the queries: it was there, or on its way

 private:
  struct Kept {
    PictureKey key;
    std::shared_ptr<Picture> picture;
    int64_t bytes;
  };

  int64_t limit_;
  std::list<Kept> kept_;  // the one asked for last in front
  std::unordered_map<PictureKey, std::list<Kept>::iterator> places_;
  std::unordered_map<PictureKey, std::weak_ptr<Picture>> known_;  // in use or kept
  int64_t bytes_ = 0, queries_ = 0, hits_ = 0;
};

}  // namespace vl2
