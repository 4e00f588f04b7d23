#include "engine/runtime/picture_cache.h"

namespace vl2 {

std::shared_ptr<Picture> PictureCache::get(const std::optional<PictureKey>& key, const ImageGrid& grid) {
  ++queries_;
  if (key && limit_ > 0) {
    const auto it = known_.find(*key);
    if (std::shared_ptr<Picture> picture = it == known_.end() ? nullptr : it->second.lock()) {
      ++hits_;
      const auto place = places_.find(*key);
      if (place != places_.end()) kept_.splice(kept_.begin(), kept_, place->second);
      return picture;
    }
  }
  auto picture = std::make_shared<Picture>();
  picture->grid = grid;
  if (key && limit_ > 0) {
    std::erase_if(known_, [](const auto& entry) { return entry.second.expired(); });
    known_[*key] = picture;
  }
  return picture;
}

void PictureCache::keep(const PictureKey& key, const std::shared_ptr<Picture>& picture) {
  const int64_t bytes = picture->features_SD.size() * static_cast<int64_t>(sizeof(float));
  if (bytes > limit_ || places_.contains(key)) return;
  kept_.push_front({key, picture, bytes});
  places_[key] = kept_.begin();
  bytes_ += bytes;
  while (bytes_ > limit_) {
    bytes_ -= kept_.back().bytes;
    places_.erase(kept_.back().key);
    kept_.pop_back();
  }
}

}  // namespace vl2
