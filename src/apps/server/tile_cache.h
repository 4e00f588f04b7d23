// Pictures as their tiles, remembered by their files: a second question on a picture waits for no decoding and no
// resizing. The one asked for longest ago goes first.
//
// Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/base/sha256.h"
#include "core/processor/multimodal_prompt.h"

namespace vl2::server {

class TileCache {
 public:
  using Tiles = std::vector<uint8_t>;  // TiledImage::pixels

  // Holds at most so many bytes of tiles, besides those in use. 0: nothing.
  explicit TileCache(int64_t limit) : limit_(limit) {}

  // nullptr: it is not here.
  std::shared_ptr<const Tiles> find(const Digest& key);
  void keep(const Digest& key, std::shared_ptr<const Tiles> tiles);

  struct Counts {
    int64_t bytes = 0;  // of the tiles that are kept
    int64_t queries = 0, hits = 0;
  };
  Counts counts() const;

 private:
  struct Kept {
    Digest key;
    std::shared_ptr<const Tiles> tiles;
  };

  const int64_t limit_;
  mutable std::mutex mutex_;
  std::list<Kept> kept_;  // the one asked for last in front
  std::unordered_map<Digest, std::list<Kept>::iterator> places_;
  Counts counts_;
};

// Of a file that is cut up as `plan` says; its pixels do not matter.
Digest tiles_key(std::span<const std::byte> file, const TiledImage& plan);

}  // namespace vl2::server
