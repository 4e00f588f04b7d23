#include "train/input/assemble.h"

#include <utility>

namespace vl2::train {
namespace {

void append(MicroBatch& batch, Sample sample) {
  MultimodalPrompt& prompt = sample.prompt;
  const size_t begin = batch.input_ids.size();
  batch.input_ids.insert(batch.input_ids.end(), prompt.input_ids.begin(), prompt.input_ids.end());
  batch.labels.insert(batch.labels.end(), prompt.labels.begin(), prompt.labels.end());
  // What stands in front of it is another sample's: a loss that shifts the whole batch must not learn this one.
  if (begin < batch.labels.size()) batch.labels[begin] = kIgnoredLabel;
  for (size_t i = 0; i < prompt.input_ids.size(); ++i) batch.positions.push_back(static_cast<int32_t>(i));
  batch.vision_mask.insert(batch.vision_mask.end(), prompt.images_seq_mask.begin(), prompt.images_seq_mask.end());
  batch.sample_starts.push_back(batch.num_tokens());
  for (TiledImage& image : prompt.images) batch.images.push_back(std::move(image));
  batch.record_ids.push_back(std::move(sample.name));
}

}  // namespace

MicroBatch assemble(std::vector<std::vector<Sample>> rows) {
  MicroBatch batch;
  batch.sample_starts.push_back(0);
  batch.row_starts.push_back(0);
  for (std::vector<Sample>& row : rows) {
    if (row.empty()) continue;
    for (Sample& sample : row) append(batch, std::move(sample));
    batch.row_starts.push_back(batch.num_tokens());
  }
  return batch;
}

}  // namespace vl2::train
