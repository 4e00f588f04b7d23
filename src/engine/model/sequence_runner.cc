#include "engine/model/sequence_runner.h"

#include <algorithm>
#include <utility>

#include "engine/model/visual_sequence.h"

namespace vl2 {
namespace {

constexpr int64_t kBlockTokens = 16;

int64_t num_image_rows(const SequenceInput& s, int64_t begin, int64_t end) {
  return std::count(s.is_image.begin() + begin, s.is_image.begin() + end, true);
}

}  // namespace

SequenceRunner::SequenceRunner(const DeepseekVl2& model, std::vector<SequenceInput> sequences, int64_t room,
                               StageTap* tap, Blocks blocks)
    : model_(model), sequences_(std::move(sequences)), scope_(model.ops().workspace()), past_(sequences_.size(), 0) {
  const int64_t side = model.config().tokens_per_side();
  int64_t rows = 0;
  std::vector<ImageGrid> grids;
  std::vector<float> pixels;
  std::vector<int64_t> needed_blocks;
  for (const SequenceInput& s : sequences_) {
    VL2_CHECK(!s.ids.empty() && s.is_image.size() == s.ids.size(), "a sequence needs tokens and a mask as long");
    first_feature_.push_back(rows);
    int64_t visual = 0;
    for (const ImageGrid& g : s.images) visual += num_visual_tokens(g.tiles_wide, g.tiles_high, side);
    const auto length = static_cast<int64_t>(s.ids.size());
    prompt_length_.push_back(length);
    const int64_t masked = num_image_rows(s, 0, length);
    if (visual != masked)
      fail(ErrorCode::kInvalidArgument,
           "{} places are marked for pictures, but the {} pictures of the sequence make {} rows", masked,
           s.images.size(), visual);
    rows += visual;
    grids.insert(grids.end(), s.images.begin(), s.images.end());
    pixels.insert(pixels.end(), s.pixels.begin(), s.pixels.end());
    needed_blocks.push_back((length + room + kBlockTokens - 1) / kBlockTokens);
  }
  blocks_.resize(sequences_.size());
  int32_t next = 0;
  const int64_t most = *std::max_element(needed_blocks.begin(), needed_blocks.end());
  const int64_t at_once = blocks == Blocks::kTogether ? most : 1;  // of a sequence, then of the next
  for (int64_t turn = 0; turn < most; turn += at_once)
    for (size_t s = 0; s < blocks_.size(); ++s)
      for (int64_t i = turn; i < std::min(turn + at_once, needed_blocks[s]); ++i) blocks_[s].push_back(next++);
  cache_ = model.make_cache(next, kBlockTokens);
  features_ = model.ops().workspace().tensor(rows, model.config().language.hidden_size);
  model.encode_images(pixels, grids, features_, tap);
}

std::vector<float> SequenceRunner::step(std::span<const Part> parts, Logits wanted, StageTap* tap) {
  std::vector<int32_t> ids, logit_rows;
  std::vector<SequenceSlice> slices;
  std::vector<std::vector<int32_t>> places;  // of each part's image rows in the batch
  std::vector<VisionRows> vision;
  places.reserve(parts.size());
  for (const Part& part : parts) {
    const auto index = static_cast<size_t>(part.sequence);
    const SequenceInput& s = sequences_[index];
    const int64_t past = past_[index], end = past + part.count;
    VL2_CHECK(part.count > 0 && end <= static_cast<int64_t>(s.ids.size()), "sequence {} has {} tokens, not {}",
              part.sequence, s.ids.size(), end);
    const auto begin = static_cast<int32_t>(ids.size());
    slices.push_back({begin, part.count, past, blocks_[index], past >= prompt_length_[index]});
    ids.insert(ids.end(), s.ids.begin() + past, s.ids.begin() + end);
    std::vector<int32_t>& rows = places.emplace_back();
    for (int64_t i = 0; i < part.count; ++i) {
      const int32_t row = begin + static_cast<int32_t>(i);
      if (s.is_image[static_cast<size_t>(past + i)]) rows.push_back(row);
      if (wanted == Logits::kAll || (wanted != Logits::kNone && i + 1 == part.count)) logit_rows.push_back(row);
    }
    const int64_t first = first_feature_[index] + num_image_rows(s, 0, past);
    if (!rows.empty()) vision.push_back({features_.row_range(first, static_cast<int64_t>(rows.size())), rows});
  }
  Workspace::Scope scope(model_.ops().workspace());
  Tensor logits =
      model_.ops().workspace().tensor(static_cast<int64_t>(logit_rows.size()), model_.config().language.vocab_size);
  model_.forward(ids, vision, {slices, logit_rows}, *cache_, logits, tap);
  for (const Part& part : parts) past_[static_cast<size_t>(part.sequence)] += part.count;
  if (wanted == Logits::kBest) {
    std::vector<ChosenId> best(static_cast<size_t>(logits.rows));
    model_.ops().choose_ids(best, logits, {}, logits.cols);
    return {};
  }
  std::vector<float> values(static_cast<size_t>(logits.size()));
  model_.ops().download(values, logits);
  return values;
}

std::vector<float> SequenceRunner::step_all(Logits logits, StageTap* tap) {
  std::vector<Part> parts;
  for (int64_t s = 0; s < num_sequences(); ++s) {
    const int64_t left = static_cast<int64_t>(ids(s).size()) - past(s);
    if (left > 0) parts.push_back({s, left});
  }
  return step(parts, logits, tap);
}

void SequenceRunner::append(int64_t sequence, int32_t id) {
  SequenceInput& s = sequences_[static_cast<size_t>(sequence)];
  s.ids.push_back(id);
  s.is_image.push_back(false);
}

void SequenceRunner::rewind(int64_t sequence, int64_t length) {
  SequenceInput& s = sequences_[static_cast<size_t>(sequence)];
  VL2_CHECK(length >= 0 && length <= static_cast<int64_t>(s.ids.size()));
  s.ids.resize(static_cast<size_t>(length));
  s.is_image.resize(static_cast<size_t>(length));
  past_[static_cast<size_t>(sequence)] = std::min(past_[static_cast<size_t>(sequence)], length);
}

std::vector<float> SequenceRunner::cached(int64_t sequence, int64_t layer, int64_t token) const {
  VL2_CHECK(token < past(sequence), "token {} of sequence {} has not been run", token, sequence);
  std::vector<float> values(static_cast<size_t>(cache_->width()));
  cache_->read(layer, blocks_[static_cast<size_t>(sequence)], token, values.data());
  return values;
}

}  // namespace vl2
