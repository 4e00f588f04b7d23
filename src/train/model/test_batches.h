// For tests only: micro-batches of random tokens and pictures, several put behind each other, and numbers of tensors.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "train/model/deepseek_vl2.h"
#include "train/model/visual_sequence.h"

namespace vl2::train {

// One sample: a token, the pictures, then text; only text is supervised, and of that what `supervised` says.
inline MicroBatch random_sample(const ModelConfig& config, uint64_t seed, int64_t text,
                                const std::vector<std::pair<int64_t, int64_t>>& grids = {}, double supervised = 0.7) {
  Random random(seed);
  MicroBatch batch;
  const auto add = [&](int32_t id, int32_t label, bool vision) {
    batch.positions.push_back(static_cast<int32_t>(batch.input_ids.size()));
    batch.input_ids.push_back(id);
    batch.labels.push_back(label);
    batch.vision_mask.push_back(vision ? 1 : 0);
  };
  add(0, 0, false);
  for (const auto& [wide, high] : grids) {
    TiledImage image;
    image.tiles_wide = wide;
    image.tiles_high = high;
    image.tile_size = config.vision.image_size;
    image.pixels.resize(static_cast<size_t>(image.num_tiles() * image.tile_size * image.tile_size * 3));
    for (uint8_t& p : image.pixels) p = static_cast<uint8_t>(random.below(256));
    const int64_t tokens = num_visual_tokens(wide, high, config.tokens_per_side());
    for (int64_t i = 0; i < tokens; ++i) add(7, kIgnoredLabel, true);
    batch.images.push_back(std::move(image));
  }
  for (int64_t i = 0; i < text; ++i) {
    const auto id = static_cast<int32_t>(random.below(config.language.vocab_size));
    add(id, random.uniform() < supervised ? id : kIgnoredLabel, false);
  }
  batch.sample_starts = {0, batch.num_tokens()};
  batch.row_starts = batch.sample_starts;
  batch.record_ids = {"sample " + std::to_string(seed)};
  return batch;
}

// The samples one behind the other: each a row of its own, or all one row.
inline MicroBatch packed(const std::vector<MicroBatch>& parts, bool one_row) {
  MicroBatch batch;
  batch.sample_starts = {0};
  batch.row_starts = {0};
  const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (const MicroBatch& part : parts) {
    const int64_t begin = batch.num_tokens();
    append(batch.input_ids, part.input_ids);
    append(batch.labels, part.labels);
    append(batch.positions, part.positions);
    append(batch.vision_mask, part.vision_mask);
    append(batch.images, part.images);
    append(batch.record_ids, part.record_ids);
    for (size_t i = 1; i < part.sample_starts.size(); ++i) batch.sample_starts.push_back(begin + part.sample_starts[i]);
    if (!one_row) batch.row_starts.push_back(batch.num_tokens());
  }
  if (one_row) batch.row_starts.push_back(batch.num_tokens());
  return batch;
}

// |a - b| / |b| in double; |a| where b is zero.
inline double relative_distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide_a = a.detach().to(at::kDouble), wide_b = b.detach().to(at::kDouble);
  const double scale = wide_b.norm().item<double>();
  const double distance = (wide_a - wide_b).norm().item<double>();
  return scale > 0.0 ? distance / scale : distance;
}

// By parameter name.
inline std::map<std::string, at::Tensor> gradients(const Parameters& parameters) {
  std::map<std::string, at::Tensor> result;
  for (const Parameter& p : parameters.all())
    if (p.trainable() && p.value.grad().defined()) result[p.name] = p.value.grad().clone();
  return result;
}

}  // namespace vl2::train
