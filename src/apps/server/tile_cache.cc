#include "apps/server/tile_cache.h"

#include <array>
#include <iterator>
#include <utility>

namespace vl2::server {
namespace {

int64_t size_of(const TileCache::Tiles& tiles) { return static_cast<int64_t>(tiles.size()); }

}  // namespace

std::shared_ptr<const TileCache::Tiles> TileCache::find(const Digest& key) {
  const std::lock_guard lock(mutex_);
  ++counts_.queries;
  const auto place = places_.find(key);
  if (place == places_.end()) return nullptr;
  ++counts_.hits;
  kept_.splice(kept_.begin(), kept_, place->second);
  return place->second->tiles;
}

void TileCache::keep(const Digest& key, std::shared_ptr<const Tiles> tiles) {
  std::list<Kept> gone;  // freed behind the lock
  const std::lock_guard lock(mutex_);
  if (size_of(*tiles) > limit_ || places_.contains(key)) return;
  counts_.bytes += size_of(*tiles);
  kept_.push_front({key, std::move(tiles)});
  places_[key] = kept_.begin();
  while (counts_.bytes > limit_) {
    counts_.bytes -= size_of(*kept_.back().tiles);
    places_.erase(kept_.back().key);
    gone.splice(gone.end(), kept_, std::prev(kept_.end()));
  }
}

TileCache::Counts TileCache::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

Digest tiles_key(std::span<const std::byte> file, const TiledImage& plan) {
  struct {
    Digest file;
    std::array<int64_t, 3> cut;
  } const words{sha256(file), {plan.tiles_wide, plan.tiles_high, plan.tile_size}};
  return sha256(std::as_bytes(std::span(&words, 1)));
}

}  // namespace vl2::server
