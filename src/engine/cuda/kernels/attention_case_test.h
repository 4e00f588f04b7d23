// Batches of sequences with random queries, keys and values, for tests of the attention kernels; and attention itself
// in double, as the paper writes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/random.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// [rows, heads, cols], with a gap behind each row: strides are not products of sizes.
struct HeadRows {
  HeadRows(int64_t rows, int64_t heads, int64_t cols, float fill = 0.0f)
      : values(static_cast<size_t>(rows * (heads * cols + 3)), fill), view{values.data(),    rows, heads, cols,
                                                                           heads * cols + 3, cols} {}
  HeadRows(int64_t rows, int64_t heads, int64_t cols, Random& random) : HeadRows(rows, heads, cols) {
    for (float& x : values) x = 2.0f * random.symmetric();
  }
  HeadRows(const HeadRows&) = delete;
  float* at(int64_t row, int64_t head) { return view.data + row * view.row_stride + head * view.head_stride; }
  double get(int64_t row, int64_t head, int64_t col) { return static_cast<double>(at(row, head)[col]); }

  std::vector<float> values;
  RowsView view;
};

inline float as_bf16(float x) { return to_float(to_bf16(x)); }

struct CachedSequence {
  int32_t past, count;
  bool decode;
};

// A cache whose blocks belong to the sequences in no order, filled with random tokens, and the tables of a batch.
struct CachedBatch {
  CachedBatch(const std::vector<CachedSequence>& list, int32_t width, int32_t block_tokens, bool bf16, Random& random) {
    int32_t num_blocks = 1;
    for (const CachedSequence& s : list) num_blocks += (s.past + s.count + block_tokens - 1) / block_tokens;
    int32_t next = num_blocks - 1, row = 0, answers = 0;
    for (const CachedSequence& s : list) {
      sequences.push_back(
          {row, s.count, s.past, static_cast<int32_t>(blocks.size()), s.decode ? 1 : 0, s.decode ? answers : 0});
      for (int32_t t = 0; t < s.past + s.count; t += block_tokens) blocks.push_back(next--);
      for (int32_t i = 0; i < s.count; ++i) {
        row_sequence.push_back(static_cast<int32_t>(sequences.size()) - 1);
        if (s.decode) answer_rows.push_back(row + i);
      }
      row += s.count;
      answers += s.decode ? s.count : 0;
      view.longest_context = std::max(view.longest_context, s.past + s.count);
      view.longest_count = std::max(view.longest_count, s.count);
    }
    view.sequences = sequences.data();
    view.block_table = blocks.data();
    view.row_sequence = row_sequence.data();
    view.answer_rows = answer_rows.data();
    view.num_sequences = static_cast<int32_t>(sequences.size());
    view.rows = row;
    view.decode_rows = answers;
    const auto size = static_cast<size_t>(num_blocks) * static_cast<size_t>(block_tokens * width);
    values.resize(size);
    for (float& x : values) x = bf16 ? as_bf16(2.0f * random.symmetric()) : 2.0f * random.symmetric();
    for (const float x : values) halves.push_back(to_bf16(x).bits);
    cache = {bf16 ? static_cast<void*>(halves.data()) : static_cast<void*>(values.data()), bf16, block_tokens, width};
  }
  CachedBatch(const CachedBatch&) = delete;

  size_t place(const SequenceRows& s, int32_t token) const {
    const auto block = static_cast<size_t>(s.first_block + token / cache.block_tokens);
    return static_cast<size_t>(blocks[block] * cache.block_tokens + token % cache.block_tokens) *
           static_cast<size_t>(cache.width);
  }
  double cached(const SequenceRows& s, int32_t token, int64_t column) const {
    const size_t at = place(s, token) + static_cast<size_t>(column);
    return static_cast<double>(cache.bf16 ? to_float(BF16{halves[at]}) : values[at]);
  }

  std::vector<SequenceRows> sequences;
  std::vector<int32_t> blocks, row_sequence, answer_rows;
  std::vector<float> values;
  std::vector<Bf16Bits> halves;
  SequencesView view;
  CacheView cache;
};

// Softmax of scale * q k over `keys` keys. q(d), k(j, d) give doubles.
template <typename Q, typename K>
std::vector<double> softmax_weights(int64_t keys, int64_t size, double scale, const Q& q, const K& k) {
  std::vector<double> p(static_cast<size_t>(keys));
  for (int64_t j = 0; j < keys; ++j) {
    double score = 0;
    for (int64_t d = 0; d < size; ++d) score += q(d) * k(j, d);
    p[static_cast<size_t>(j)] = scale * score;
  }
  const double top = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - top);
  for (double& x : p) x /= sum;
  return p;
}

}  // namespace vl2::cuda
