#include "core/processor/collate.h"

#include <algorithm>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr int32_t kIgnored = -100;

template <typename T>
void append_padded(const std::vector<T>& values, size_t length, T padding, std::vector<T>& out) {
  out.insert(out.end(), length - values.size(), padding);
  out.insert(out.end(), values.begin(), values.end());
}

}  // namespace

PromptBatch collate(std::span<const MultimodalPrompt> prompts, int32_t pad_id) {
  if (prompts.empty()) fail(ErrorCode::kInvalidArgument, "a batch of no prompts: give at least one");
  size_t length = 0, max_images = 1;
  int64_t max_tiles = 1;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const MultimodalPrompt& p = prompts[i];
    if (p.labels.size() != p.input_ids.size() || p.images_seq_mask.size() != p.input_ids.size())
      fail(ErrorCode::kInvalidArgument, "prompt {}: {} ids, {} labels and a mask of {}; they must be as many", i + 1,
           p.input_ids.size(), p.labels.size(), p.images_seq_mask.size());
    int64_t tiles = 0;
    for (const TiledImage& image : p.images) tiles += image.num_tiles();
    length = std::max(length, p.input_ids.size());
    max_images = std::max(max_images, p.images.size());
    max_tiles = std::max(max_tiles, tiles);
  }
  PromptBatch batch;
  batch.batch = static_cast<int64_t>(prompts.size());
  batch.length = static_cast<int64_t>(length);
  batch.max_images = static_cast<int64_t>(max_images);
  batch.max_tiles = max_tiles;
  for (const MultimodalPrompt& p : prompts) {
    append_padded(p.input_ids, length, pad_id, batch.input_ids);
    append_padded(p.labels, length, kIgnored, batch.labels);
    append_padded(std::vector<uint8_t>(p.input_ids.size(), 1), length, uint8_t{0}, batch.attention_mask);
    append_padded(p.images_seq_mask, length, uint8_t{0}, batch.images_seq_mask);
    for (const TiledImage& image : p.images) batch.images_spatial_crop.push_back({image.tiles_wide, image.tiles_high});
    batch.images_spatial_crop.resize(batch.images_spatial_crop.size() + max_images - p.images.size());
    batch.lengths.push_back(static_cast<int64_t>(p.input_ids.size()));
  }
  return batch;
}

}  // namespace vl2
