#include "engine/cuda/kernels/latent_pieces.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "engine/cuda/kernels/attention_case_test.h"
#include "engine/cuda/kernels/latent_weights.h"

namespace vl2::cuda {
namespace {

const std::vector<CachedSequence> kBatch = {{5, 3, false},  {0, 1, true},  {63, 1, true}, {63, 3, true},
                                            {300, 2, true}, {7, 9, false}, {127, 1, true}};

struct Shape {
  int32_t heads, rank, rope;
  bool bf16;
  int32_t keys;
};

class LatentPiecesKernel : public testing::TestWithParam<Shape> {};

// Operands are what bf16 can say, so that only softmax weights are rounded.
TEST_P(LatentPiecesKernel, AnswersAreAttentionOverTheLatents) {
  const Shape s = GetParam();
  const int32_t width = s.rank + s.rope;
  Random random(3);
  CachedBatch batch(kBatch, width, 8, s.bf16, random);
  for (float& x : batch.values) x = as_bf16(x);
  const int64_t answers = batch.view.decode_rows, context = batch.view.longest_context;
  HeadRows q(answers, s.heads, width, random), out(answers, s.heads, s.rank, -7.0f);
  for (float& x : q.values) x = as_bf16(x);
  std::vector<float> scratch(
      static_cast<size_t>(pieces_bytes(answers, s.heads, s.rank, context, s.keys)) / sizeof(float), NAN);
  const PiecesView pieces = make_pieces(scratch.data(), answers, s.heads, s.rank, context, s.keys);
  latent_pieces({q.view, s.rank, batch.cache, batch.view, 0.11f, pieces}, nullptr);
  merge_pieces({out.view, QueryRows::kAnswers, batch.view, pieces}, nullptr);
  for (const SequenceRows& sequence : batch.sequences)
    for (int32_t i = 0; sequence.decode != 0 && i < sequence.count; ++i)
      for (int32_t h = 0; h < s.heads; ++h) {
        const int32_t row = sequence.first_answer + i;
        const auto p = softmax_weights(
            sequence.past + i + 1, width, 0.11f, [&](int64_t d) { return q.get(row, h, d); },
            [&](int64_t j, int64_t d) { return batch.cached(sequence, static_cast<int32_t>(j), d); });
        for (int32_t d = 0; d < s.rank; ++d) {
          double expected = 0;
          for (size_t j = 0; j < p.size(); ++j) expected += p[j] * batch.cached(sequence, static_cast<int32_t>(j), d);
          ASSERT_NEAR(out.get(row, h, d), expected, 2.0 / 512 + 1e-4)
              << "row " << row << " head " << h << " column " << d;
        }
      }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LatentPiecesKernel,
                         testing::Values(Shape{1, 4, 1, false, 64}, Shape{9, 33, 6, false, 64},
                                         Shape{9, 33, 6, true, 128}, Shape{16, 80, 16, true, 128},
                                         Shape{20, 64, 8, true, 64}, Shape{3, 512, 64, true, 192}));

TEST(LatentPieceKeys, FillTheDeviceAndThenGrow) {
  EXPECT_EQ(latent_piece_keys(1, 1, 16, 4096, 132), 64);
  EXPECT_EQ(latent_piece_keys(1, 1, 16, 0, 132), 64);
  const int32_t many = latent_piece_keys(128, 1, 16, 4096, 132);
  EXPECT_GE(many, 1024);
  EXPECT_EQ(many % 64, 0);
}

struct WeightShape {
  int32_t heads, nope, v, rank, rope;
  bool bf16;
};

class LatentWeightKernels : public testing::TestWithParam<WeightShape> {
 protected:
  // Rows of W_kvb as a backend packs them: a stride of whole 16 bytes, zeros behind.
  LatentWeightKernels() {
    const WeightShape s = GetParam();
    stride_ = (s.rank + 7) / 8 * 8;
    const int64_t rows = s.heads * (s.nope + s.v);
    floats_.assign(static_cast<size_t>(rows * stride_), 0.0f);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < s.rank; ++c)
        floats_[static_cast<size_t>(r * stride_ + c)] = as_bf16(0.5f * random_.symmetric());
    for (const float x : floats_) halves_.push_back(to_bf16(x).bits);
    matrix_ = {{s.bf16 ? MatrixFormat::kBf16 : MatrixFormat::kF32,
                s.bf16 ? static_cast<const void*>(halves_.data()) : static_cast<const void*>(floats_.data()), rows,
                s.rank, stride_},
               s.heads,
               s.nope,
               s.v};
  }
  double weight(int64_t row, int64_t column) const {
    return static_cast<double>(floats_[static_cast<size_t>(row * stride_ + column)]);
  }
  // Several answers and a single one.
  template <typename Body>
  void for_batches(const Body& body) {
    for (const std::vector<CachedSequence>& list : {kBatch, std::vector<CachedSequence>{{5, 3, false}, {0, 1, true}},
                                                    std::vector<CachedSequence>{{5, 3, false}}}) {
      CachedBatch batch(list, 8, 8, false, random_);
      body(batch);
    }
  }

  Random random_{9};
  int64_t stride_ = 0;
  std::vector<float> floats_;
  std::vector<Bf16Bits> halves_;
  LatentMatrix matrix_;
};

TEST_P(LatentWeightKernels, AbsorbMultipliesByKeysTransposedAndCopiesTheRotatedPart) {
  const WeightShape s = GetParam();
  for_batches([&](CachedBatch& batch) {
    HeadRows q(batch.view.rows, s.heads, s.nope + s.rope, random_),
        out(batch.view.decode_rows, s.heads, s.rank + s.rope, -7.0f);
    absorb_queries({out.view, q.view, matrix_, batch.view}, nullptr);
    for (int32_t a = 0; a < batch.view.decode_rows; ++a)
      for (int32_t h = 0; h < s.heads; ++h) {
        const int32_t row = batch.answer_rows[static_cast<size_t>(a)];
        for (int32_t c = 0; c < s.rank; ++c) {
          double expected = 0;
          for (int32_t n = 0; n < s.nope; ++n) expected += q.get(row, h, n) * weight(h * (s.nope + s.v) + n, c);
          ASSERT_NEAR(out.get(a, h, c), expected, 2e-5) << "answer " << a << " head " << h << " column " << c;
        }
        for (int32_t c = 0; c < s.rope; ++c)
          ASSERT_EQ(out.get(a, h, s.rank + c), q.get(row, h, s.nope + c)) << "answer " << a << " head " << h;
      }
    for (int32_t a = 0; a < batch.view.decode_rows; ++a) ASSERT_EQ(out.at(a, s.heads)[0], -7.0f);
  });
}

TEST_P(LatentWeightKernels, ExpandMultipliesByValuesAndLeavesPromptsAlone) {
  const WeightShape s = GetParam();
  for_batches([&](CachedBatch& batch) {
    HeadRows x(batch.view.decode_rows, s.heads, s.rank, random_), out(batch.view.rows, s.heads, s.v, -7.0f);
    expand_values({out.view, x.view, matrix_, batch.view}, nullptr);
    for (const SequenceRows& sequence : batch.sequences)
      for (int32_t i = 0; i < sequence.count; ++i)
        for (int32_t h = 0; h < s.heads; ++h)
          for (int32_t j = 0; j < s.v; ++j) {
            double expected = sequence.decode != 0 ? 0.0 : -7.0;
            for (int32_t c = 0; sequence.decode != 0 && c < s.rank; ++c)
              expected += x.get(sequence.first_answer + i, h, c) * weight(h * (s.nope + s.v) + s.nope + j, c);
            ASSERT_NEAR(out.get(sequence.begin + i, h, j), expected, 2e-5) << "head " << h << " output " << j;
          }
  });
}

TEST_P(LatentWeightKernels, PanelsAreRefused) {
  CachedBatch batch(kBatch, 8, 8, false, random_);
  matrix_.w.format = MatrixFormat::kQ8;
  EXPECT_THROW(expand_values({{}, {}, matrix_, batch.view}, nullptr), Error);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LatentWeightKernels,
                         testing::Values(WeightShape{1, 2, 3, 4, 1, false}, WeightShape{3, 31, 17, 65, 14, true},
                                         WeightShape{2, 128, 128, 300, 8, true}, WeightShape{2, 150, 9, 72, 8, false}));

}  // namespace
}  // namespace vl2::cuda
