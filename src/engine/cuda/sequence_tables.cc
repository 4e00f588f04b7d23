#include "engine/cuda/cuda_context.h"

namespace vl2::cuda {

// Grids of steps that answer are laid out for contexts of a multiple of this, so that a recorded step can be repeated
// until the longest context is beyond the next; blocks with nothing to do end at once.
constexpr int32_t kContextStep = 256;

static_assert(sizeof(SequenceRows) % sizeof(int32_t) == 0);

SequencesView SequenceTables::view(std::span<const SequenceSlice> sequences) {
  std::vector<SequenceRows> rows;
  std::vector<int32_t> blocks, row_sequence, answer_rows;
  SequencesView view;
  for (const SequenceSlice& s : sequences) {
    rows.push_back({.begin = static_cast<int32_t>(s.begin),
                    .count = static_cast<int32_t>(s.count),
                    .past = static_cast<int32_t>(s.past),
                    .first_block = static_cast<int32_t>(blocks.size()),
                    .decode = s.decode ? 1 : 0,
                    .first_answer = s.decode ? static_cast<int32_t>(answer_rows.size()) : 0});
    blocks.insert(blocks.end(), s.blocks.begin(), s.blocks.end());
    for (int64_t i = 0; i < s.count; ++i) {
      row_sequence.push_back(static_cast<int32_t>(rows.size()) - 1);
      if (s.decode) answer_rows.push_back(static_cast<int32_t>(s.begin + i));
    }
    view.longest_context = std::max(view.longest_context, static_cast<int32_t>(s.past + s.count));
    view.longest_count = std::max(view.longest_count, static_cast<int32_t>(s.count));
  }
  view.num_sequences = static_cast<int32_t>(rows.size());
  view.rows = static_cast<int32_t>(row_sequence.size());
  view.decode_rows = static_cast<int32_t>(answer_rows.size());
  if (view.decode_rows == view.rows)
    view.longest_context = (view.longest_context + kContextStep - 1) / kContextStep * kContextStep;

  const size_t row_words = rows.size() * sizeof(SequenceRows) / sizeof(int32_t);
  std::vector<int32_t> words(row_words + blocks.size() + row_sequence.size() + answer_rows.size());
  if (row_words > 0) std::memcpy(words.data(), rows.data(), row_words * sizeof(int32_t));
  auto next = words.begin() + static_cast<int64_t>(row_words);
  // Lists whose length grows with the context last: the others' places stay.
  for (const auto* list : {&row_sequence, &answer_rows, &blocks}) next = std::copy(list->begin(), list->end(), next);
  if (words != words_ || memory_.bytes() == 0) {
    const size_t bytes = words.size() * sizeof(int32_t);
    if (bytes > memory_.bytes()) memory_ = DeviceBuffer(device_, 2 * bytes);
    device_.upload(memory_.data(), words.data(), bytes);
    words_ = std::move(words);
  }
  view.sequences = memory_.as<SequenceRows>();
  view.row_sequence = memory_.as<int32_t>() + row_words;
  view.answer_rows = view.row_sequence + row_sequence.size();
  view.block_table = view.answer_rows + answer_rows.size();
  return view;
}

}  // namespace vl2::cuda
