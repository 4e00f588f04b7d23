// What a backend calls, against attention in double as the paper writes it: prompts and answers over a paged cache.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/cuda/kernels/attention_case_test.h"
#include "engine/cuda/kernels/cached_attention.h"
#include "engine/cuda/kernels/full_attention.h"
#include "engine/cuda/kernels/latent_attention.h"

namespace vl2::cuda {
namespace {

const std::vector<CachedSequence> kBatch = {{5, 40, false}, {0, 1, true},   {63, 3, true}, {0, 1, false},
                                            {64, 9, false}, {130, 2, true}, {8, 1, true}};
const std::vector<CachedSequence> kFewAnswers = {{9, 2, false}, {200, 2, true}, {66, 1, true}};

struct Scratch {
  explicit Scratch(int64_t bytes) : values(static_cast<size_t>(bytes) / sizeof(float) + 1, NAN) {}
  std::vector<float> values;
};

// Values are at most 2; bf16 rounds queries, keys, weights and values by 2^-9 each, float32 sums lose little.
double tolerance(bool bf16) { return bf16 ? 0.03 : 2e-5; }

RowsView rows_of(const RowsView& x, const SequenceRows& s) {
  RowsView part = x;
  part.data += s.begin * x.row_stride;
  part.rows = s.count;
  return part;
}

struct Mode {
  bool bf16, bf16_cache;
};
class Attention : public testing::TestWithParam<Mode> {
 protected:
  Random random_{11};
  const double tolerance_ = tolerance(GetParam().bf16);

  // weights(row, head) gives the softmax over the row's keys, value(sequence, key, head, column) what they mix.
  template <typename Weights, typename Value>
  void check(CachedBatch& batch, HeadRows& out, HeadRows& probe, const Weights& weights, const Value& value) const {
    for (const SequenceRows& s : batch.sequences)
      for (int32_t row = s.begin; row < s.begin + s.count; ++row)
        for (int32_t h = 0; h < out.view.heads; ++h) {
          const std::vector<double> p = weights(s, row, h);
          for (int32_t d = 0; d < out.view.cols; ++d) {
            double expected = 0;
            for (size_t j = 0; j < p.size(); ++j) expected += p[j] * value(s, static_cast<int32_t>(j), h, d);
            ASSERT_NEAR(out.get(row, h, d), expected, tolerance_) << "row " << row << " head " << h << " column " << d;
          }
          for (size_t j = 0; j < static_cast<size_t>(probe.view.cols); ++j)
            ASSERT_NEAR(probe.get(row, h, static_cast<int64_t>(j)), j < p.size() ? p[j] : 0.0, 1e-5)
                << "row " << row << " head " << h << " key " << j;
        }
  }
};

TEST_P(Attention, OfTheVisionEncoderStaysInsideItems) {
  for (const int32_t size : {7, 72, 136}) {
    constexpr int32_t kItems = 3, kTokens = 37, kHeads = 2;
    HeadRows qkv(kItems * kTokens, 1, 3 * kHeads * size, random_), out(kItems * kTokens, kHeads, size);
    Scratch scratch(full_attention_bytes(kItems * kTokens, kHeads, size, GetParam().bf16));
    full_attention({out.view, qkv.view, kTokens, GetParam().bf16, scratch.values.data()}, nullptr);
    for (int32_t row = 0; row < kItems * kTokens; ++row)
      for (int32_t h = 0; h < kHeads; ++h) {
        const int32_t first = row / kTokens * kTokens;
        const auto p = softmax_weights(
            kTokens, size, 1 / std::sqrt(size), [&](int64_t d) { return qkv.get(row, 0, h * size + d); },
            [&](int64_t j, int64_t d) { return qkv.get(first + j, 0, (kHeads + h) * size + d); });
        for (int32_t d = 0; d < size; ++d) {
          double expected = 0;
          for (int32_t j = 0; j < kTokens; ++j)
            expected += p[static_cast<size_t>(j)] * qkv.get(first + j, 0, (2 * kHeads + h) * size + d);
          ASSERT_NEAR(out.get(row, h, d), expected, tolerance_) << size << ": row " << row << " column " << d;
        }
      }
  }
}

TEST_P(Attention, OverCachedKeysOfGroupedHeads) {
  struct Heads {
    int32_t heads, groups, size;
  };
  for (const Heads& s : {Heads{2, 2, 128}, Heads{6, 2, 23}}) {
    CachedBatch batch(kBatch, 2 * s.groups * s.size, 16, GetParam().bf16_cache, random_);
    HeadRows q(batch.view.rows, s.heads, s.size, random_), out(batch.view.rows, s.heads, s.size),
        probe(batch.view.rows, s.heads, batch.view.longest_context, -7.0f);
    for (const SequenceRows& x : batch.sequences) {
      CachedPrompt prompt{rows_of(out.view, x),
                          rows_of(q.view, x),
                          batch.cache,
                          batch.blocks.data() + x.first_block,
                          s.groups,
                          x.past,
                          0.2f,
                          GetParam().bf16,
                          nullptr};
      Scratch scratch(std::max(cached_prompt_bytes(x.past + x.count, s.groups, s.size, false),
                               cached_prompt_bytes(x.past + x.count, s.groups, s.size, true)));
      prompt.scratch = scratch.values.data();
      cached_probe(prompt, rows_of(probe.view, x), nullptr);
      if (x.decode == 0) cached_prompt(prompt, nullptr);
    }
    Scratch scratch(cached_answers_bytes(batch.view, s.heads, s.size));
    cached_answers({out.view, q.view, batch.cache, batch.view, s.groups, 0.2f, scratch.values.data()}, nullptr);
    check(
        batch, out, probe,
        [&](const SequenceRows& x, int32_t row, int32_t h) {
          return softmax_weights(
              x.past + row - x.begin + 1, s.size, 0.2f, [&](int64_t d) { return q.get(row, h, d); },
              [&](int64_t j, int64_t d) {
                return batch.cached(x, static_cast<int32_t>(j), h / (s.heads / s.groups) * s.size + d);
              });
        },
        [&](const SequenceRows& x, int32_t j, int32_t h, int32_t d) {
          return batch.cached(x, j, (s.groups + h / (s.heads / s.groups)) * s.size + d);
        });
  }
}

TEST_P(Attention, OverLatentsExpandedForPromptsAndAbsorbedForAnswers) {
  struct Latent {
    const std::vector<CachedSequence>& batch;
    int32_t heads, nope, rope, v, rank;
  };
  for (const Latent& l : {Latent{kBatch, 3, 128, 64, 128, 96}, Latent{kBatch, 9, 31, 14, 17, 65},
                          Latent{kFewAnswers, 9, 31, 14, 17, 65}, Latent{kFewAnswers, 2, 24, 8, 33, 520}}) {
    const int32_t size = l.nope + l.rope, width = l.rank + l.rope, per_head = l.nope + l.v;
    const int32_t stride = (l.rank + 7) / 8 * 8;
    CachedBatch batch(l.batch, width, 16, GetParam().bf16_cache, random_);
    std::vector<float> w(static_cast<size_t>(l.heads * per_head * stride), 0.0f);
    for (size_t i = 0; i < w.size(); ++i)
      if (static_cast<int32_t>(i) % stride < l.rank)
        w[i] = random_.symmetric(1.0f / std::sqrt(static_cast<float>(l.rank)));
    const LatentMatrix weights{
        {MatrixFormat::kF32, w.data(), l.heads * per_head, l.rank, stride}, l.heads, l.nope, l.v};
    // kv[sequence][key][heads * per_head], in double: what the product in between gives.
    std::vector<std::vector<float>> kv(batch.sequences.size());
    for (size_t i = 0; i < kv.size(); ++i) {
      const SequenceRows& x = batch.sequences[i];
      const int32_t keys = x.past + x.count;
      std::vector<float> latents(static_cast<size_t>(keys * stride), NAN);
      gather_latents({latents.data(), false, stride, keys, l.rank, batch.cache, batch.blocks.data() + x.first_block},
                     nullptr);
      for (int32_t j = 0; j < keys; ++j)
        for (int32_t r = 0; r < l.heads * per_head; ++r) {
          double sum = 0;
          for (int32_t c = 0; c < stride; ++c)
            sum += static_cast<double>(w[static_cast<size_t>(r * stride + c)]) *
                   static_cast<double>(latents[static_cast<size_t>(j * stride + c)]);
          kv[i].push_back(static_cast<float>(sum));
        }
    }
    HeadRows q(batch.view.rows, l.heads, size, random_), out(batch.view.rows, l.heads, l.v),
        probe(batch.view.rows, l.heads, batch.view.longest_context, -7.0f);
    for (size_t i = 0; i < kv.size(); ++i) {
      const SequenceRows& x = batch.sequences[i];
      LatentPrompt prompt{.out = rows_of(out.view, x),
                          .q = rows_of(q.view, x),
                          .kv = kv[i].data(),
                          .kv_stride = l.heads * per_head,
                          .qk_nope = l.nope,
                          .rank = l.rank,
                          .cache = batch.cache,
                          .blocks = batch.blocks.data() + x.first_block,
                          .past = x.past,
                          .scale = 0.1f,
                          .bf16 = GetParam().bf16};
      Scratch scratch(std::max(latent_prompt_bytes(x.past + x.count, l.heads, size, l.v, false),
                               latent_prompt_bytes(x.past + x.count, l.heads, size, l.v, true)));
      prompt.scratch = scratch.values.data();
      latent_probe(prompt, rows_of(probe.view, x), nullptr);
      if (x.decode == 0) latent_prompt(prompt, nullptr);
    }
    LatentAnswers answers{.out = out.view,
                          .q = q.view,
                          .weights = weights,
                          .cache = batch.cache,
                          .sequences = batch.view,
                          .scale = 0.1f,
                          .bf16 = GetParam().bf16,
                          .multiprocessors = 8};
    Scratch scratch(latent_answers_bytes(answers));
    answers.scratch = scratch.values.data();
    latent_answers(answers, nullptr);
    const auto expanded = [&](const SequenceRows& x, int64_t j, int64_t column) {
      return static_cast<double>(
          kv[static_cast<size_t>(&x - batch.sequences.data())][static_cast<size_t>(j * l.heads * per_head + column)]);
    };
    check(
        batch, out, probe,
        [&](const SequenceRows& x, int32_t row, int32_t h) {
          return softmax_weights(
              x.past + row - x.begin + 1, size, 0.1f, [&](int64_t d) { return q.get(row, h, d); },
              [&](int64_t j, int64_t d) {
                return d < l.nope ? expanded(x, j, h * per_head + d)
                                  : batch.cached(x, static_cast<int32_t>(j), l.rank + d - l.nope);
              });
        },
        [&](const SequenceRows& x, int32_t j, int32_t h, int32_t d) {
          return expanded(x, j, h * per_head + l.nope + d);
        });
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, Attention,
                         testing::Values(Mode{false, false}, Mode{false, true}, Mode{true, true}, Mode{true, false}));

}  // namespace
}  // namespace vl2::cuda
