#include "engine/cuda/kernels/decode_attention.h"

#include <gtest/gtest.h>

#include "engine/cuda/kernels/attention_case_test.h"
#include "engine/cuda/kernels/cache_append.h"

namespace vl2::cuda {
namespace {

// Answers among prompts, several rows at once, contexts around the ends of pieces.
const std::vector<CachedSequence> kBatch = {{5, 3, false}, {0, 1, true},   {63, 1, true}, {63, 3, true},
                                            {7, 9, false}, {130, 2, true}, {12, 1, true}, {127, 1, true}};

struct Shape {
  int32_t heads, groups, size;
  bool bf16;
};

class DecodeAttentionKernel : public testing::TestWithParam<Shape> {};

TEST_P(DecodeAttentionKernel, AnswersAreAttentionOverTheCacheAndPromptsAreLeftAlone) {
  const Shape s = GetParam();
  Random random(3);
  CachedBatch batch(kBatch, 2 * s.groups * s.size, 8, s.bf16, random);
  HeadRows q(batch.view.rows, s.heads, s.size, random), out(batch.view.rows, s.heads, s.size, -7.0f);
  const int64_t rows = batch.view.decode_rows, context = batch.view.longest_context;
  std::vector<float> scratch(
      static_cast<size_t>(pieces_bytes(rows, s.heads, s.size, context, kDecodeKeys)) / sizeof(float), NAN);
  const PiecesView pieces = make_pieces(scratch.data(), rows, s.heads, s.size, context, kDecodeKeys);
  decode_pieces(
      {q.view, QueryRows::kBatch, s.groups, s.size, s.groups * s.size, batch.cache, batch.view, 0.31f, pieces},
      nullptr);
  merge_pieces({out.view, QueryRows::kBatch, batch.view, pieces}, nullptr);
  for (const SequenceRows& sequence : batch.sequences)
    for (int32_t i = 0; i < sequence.count; ++i)
      for (int32_t h = 0; h < s.heads; ++h) {
        const int32_t row = sequence.begin + i, g = h / (s.heads / s.groups);
        const auto p = softmax_weights(
            sequence.past + i + 1, s.size, 0.31f, [&](int64_t d) { return q.get(row, h, d); },
            [&](int64_t j, int64_t d) { return batch.cached(sequence, static_cast<int32_t>(j), g * s.size + d); });
        for (int32_t d = 0; d < s.size; ++d) {
          double expected = 0;
          for (size_t j = 0; j < p.size(); ++j)
            expected += p[j] * batch.cached(sequence, static_cast<int32_t>(j), (s.groups + g) * s.size + d);
          ASSERT_NEAR(out.get(row, h, d), sequence.decode != 0 ? expected : -7.0, 1e-5)
              << "row " << row << " head " << h << " column " << d;
        }
      }
}

INSTANTIATE_TEST_SUITE_P(Shapes, DecodeAttentionKernel,
                         testing::Values(Shape{1, 1, 2, false}, Shape{4, 2, 128, true}, Shape{2, 2, 128, false},
                                         Shape{6, 2, 23, false}, Shape{6, 2, 23, true}, Shape{3, 1, 40, true}));

TEST(CacheAppendKernel, WritesEveryRowToItsPlaceAndNothingElse) {
  for (const bool bf16 : {false, true}) {
    Random random(5);
    CachedBatch batch(kBatch, 2 * 13 + 5, 8, bf16, random);
    HeadRows first(batch.view.rows, 2, 13, random), second(batch.view.rows, 1, 5, random);
    std::vector<double> expected;
    for (size_t i = 0; i < batch.values.size(); ++i)
      expected.push_back(static_cast<double>(bf16 ? to_float(BF16{batch.halves[i]}) : batch.values[i]));
    for (const SequenceRows& s : batch.sequences)
      for (int32_t i = 0; i < s.count; ++i)
        for (int32_t c = 0; c < 31; ++c) {
          const float value = c < 26 ? first.at(s.begin + i, c / 13)[c % 13] : second.at(s.begin + i, 0)[c - 26];
          expected[batch.place(s, s.past + i) + static_cast<size_t>(c)] =
              static_cast<double>(bf16 ? as_bf16(value) : value);
        }
    append_to_cache({first.view, second.view, batch.cache, batch.view}, nullptr);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_EQ(static_cast<double>(bf16 ? to_float(BF16{batch.halves[i]}) : batch.values[i]), expected[i]) << i;
  }
}

}  // namespace
}  // namespace vl2::cuda
