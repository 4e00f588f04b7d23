// The three attentions: against the reference, and against themselves with other chunks and neighbours.
#include <algorithm>
#include <numeric>

#include "conformance/op_test.h"

namespace vl2::conformance {
namespace {

// A sequence, how its prompt is cut into chunks, and how many tokens of an answer follow, how many at a time.
struct Script {
  std::vector<int64_t> chunks;
  int64_t answer = 0;
  int64_t at_once = 1;
  int64_t prompt() const { return std::accumulate(chunks.begin(), chunks.end(), int64_t{0}); }
  int64_t length() const { return prompt() + answer; }
};

class AttentionOps : public OpTest {
 public:
  struct Reader {
    int64_t prompt, answer;
  };

 protected:
  static constexpr int64_t kBlockTokens = 8;

  // Runs `step(rows, slices)` over all scripts: each step takes the next chunk or answer token of every sequence that
  // has one, in one batch. Rows are numbered sequence by sequence; the batch's rows are gathered from there.
  template <typename Step>
  static void play(const std::vector<Script>& scripts, const Step& step) {
    std::vector<std::vector<int32_t>> blocks(scripts.size());
    int32_t next_block = 0;
    for (size_t s = 0; s < scripts.size(); ++s)
      for (int64_t t = 0; t < scripts[s].length(); t += kBlockTokens) blocks[s].push_back(next_block++);
    for (auto& list : blocks) std::reverse(list.begin(), list.end());  // no order may be assumed
    std::vector<int64_t> past(scripts.size(), 0), turn(scripts.size(), 0);
    while (true) {
      std::vector<int32_t> rows;
      std::vector<SequenceSlice> slices;
      int64_t first = 0;
      for (size_t s = 0; s < scripts.size(); first += scripts[s].length(), ++s) {
        if (past[s] == scripts[s].length()) continue;
        const bool decode = past[s] >= scripts[s].prompt();
        const int64_t count = decode ? std::min(scripts[s].at_once, scripts[s].length() - past[s])
                                     : scripts[s].chunks[static_cast<size_t>(turn[s]++)];
        slices.push_back({static_cast<int64_t>(rows.size()), count, past[s], blocks[s], decode});
        for (int64_t i = 0; i < count; ++i) rows.push_back(static_cast<int32_t>(first + past[s] + i));
        past[s] += count;
      }
      if (slices.empty()) return;
      step(rows, slices);
    }
  }

  static int64_t total_rows(const std::vector<Script>& scripts) {
    int64_t total = 0;
    for (const Script& s : scripts) total += s.length();
    return total;
  }

  struct Heads {
    int64_t heads, groups, size;
  };
  // run(step) calls step(rows, slices) for every batch.
  template <typename Run>
  static Rows cached_steps(Ops& ops, const Heads& h, Rows& q, Rows& k, Rows& v, const Run& run) {
    Rows out(q.rows(), h.heads * h.size);
    const auto cache = ops.make_cache(2, q.rows() + 8, kBlockTokens, 2 * h.groups * h.size);
    run([&](const std::vector<int32_t>& rows, const std::vector<SequenceSlice>& slices) {
      const auto n = static_cast<int64_t>(rows.size());
      Rows bq(n, q.cols()), bk(n, k.cols()), bv(n, v.cols()), bout(n, out.cols());
      ops.gather_rows(bq.tensor(), q.tensor(), rows);
      ops.gather_rows(bk.tensor(), k.tensor(), rows);
      ops.gather_rows(bv.tensor(), v.tensor(), rows);
      ops.cached_attention(bout.tensor(), bq.tensor().split_heads(h.heads), bk.tensor().split_heads(h.groups),
                           bv.tensor().split_heads(h.groups), {cache.get(), 1}, slices, 0.31f);
      ops.scatter_rows(out.tensor(), bout.tensor(), rows);
    });
    return out;
  }
  static Rows cached(Ops& ops, const Heads& h, Rows& q, Rows& k, Rows& v, const std::vector<Script>& scripts) {
    return cached_steps(ops, h, q, k, v, [&](const auto& step) { play(scripts, step); });
  }

  // Answers behind a common prefix, all together or one after the other: `common` rows of a prompt, then of each reader
  // the rest of its prompt and its answer's rows in one step.
  static constexpr int64_t kCommon = 530;  // in whole blocks 528: two pieces of 256 keys, and some
  static int64_t rows_behind(const std::vector<Reader>& readers) {
    int64_t rows = kCommon;
    for (const Reader& r : readers) rows += r.prompt + r.answer;
    return rows;
  }
  // step(rows, slices) as in play().
  template <typename Step>
  static void play_behind(const std::vector<Reader>& readers, bool together, const Step& step) {
    constexpr int64_t kWhole = kCommon / kBlockTokens * kBlockTokens;
    const auto numbers = [](int64_t first, int64_t count) {
      std::vector<int32_t> result(static_cast<size_t>(count));
      std::iota(result.begin(), result.end(), static_cast<int32_t>(first));
      return result;
    };
    std::vector<int32_t> common = numbers(0, kCommon / kBlockTokens + 1);
    std::reverse(common.begin(), common.end());
    step(numbers(0, kCommon), {{0, kCommon, 0, common, false}});
    common.pop_back();
    std::vector<std::vector<int32_t>> blocks;
    std::vector<int32_t> rows;
    std::vector<SequenceSlice> slices;
    int64_t row = kCommon, next_block = kCommon / kBlockTokens + 1;
    for (const Reader& r : readers) {
      std::vector<int32_t>& own = blocks.emplace_back(common);
      for (int64_t t = 0; t < r.prompt + r.answer; t += kBlockTokens) own.push_back(static_cast<int32_t>(next_block++));
    }
    for (size_t i = 0; i < readers.size(); ++i) {
      const Reader& r = readers[i];
      step(numbers(row, r.prompt), {{0, r.prompt, kWhole, blocks[i], false}});
      row += r.prompt;
      const std::vector<int32_t> answer = numbers(row, r.answer);
      row += r.answer;
      slices.push_back({static_cast<int64_t>(rows.size()), r.answer, kWhole + r.prompt, blocks[i], true});
      rows.insert(rows.end(), answer.begin(), answer.end());
      if (!together) {
        slices.back().begin = 0;
        step(answer, slices);
        slices.clear();
      }
    }
    if (together) step(rows, slices);
  }
  static Rows cached_behind(Ops& ops, const Heads& h, Rows& q, Rows& k, Rows& v, const std::vector<Reader>& readers,
                            bool together) {
    return cached_steps(ops, h, q, k, v, [&](const auto& step) { play_behind(readers, together, step); });
  }

  struct Latent {
    int64_t heads, nope, rope, v, rank;
  };
  static Rows latent(Ops& ops, const Latent& l, const Stored& kv_b, Rows& q, Rows& c_kv, Rows& k_pe,
                     const std::vector<Script>& scripts) {
    Rows out(q.rows(), l.heads * l.v);
    const LatentWeights w = ops.pack_latent(kv_b.view(), l.heads, l.nope, l.v);
    const auto cache = ops.make_cache(2, q.rows() + 8, kBlockTokens, l.rank + l.rope);
    play(scripts, [&](const std::vector<int32_t>& rows, const std::vector<SequenceSlice>& slices) {
      const auto n = static_cast<int64_t>(rows.size());
      Rows bq(n, q.cols()), bc(n, c_kv.cols()), bk(n, k_pe.cols()), bout(n, out.cols());
      ops.gather_rows(bq.tensor(), q.tensor(), rows);
      ops.gather_rows(bc.tensor(), c_kv.tensor(), rows);
      ops.gather_rows(bk.tensor(), k_pe.tensor(), rows);
      ops.latent_attention(bout.tensor(), bq.tensor().split_heads(l.heads), bc.tensor(), bk.tensor(), w,
                           {cache.get(), 1}, slices, 0.2f);
      ops.scatter_rows(out.tensor(), bout.tensor(), rows);
    });
    return out;
  }

  // Attention is a mean of values: scores of a few units in error by d change it by about d; values, weights and sums
  // are rounded on the way. bfloat16 rounds queries, keys, weights and values by 2^-9 each.
  double attention_tolerance() const { return rounds_activations() ? 0.06 : 2e-5; }
};

const std::vector<Script> kMixed = {{{1}, 3}, {{37}, 2}, {{50, 1, 20}, 5}, {{100}, 0}, {{3, 17, 64, 2}, 1}};
const std::vector<Script> kWhole = {{{1}, 3}, {{37}, 2}, {{71}, 5}, {{100}, 0}, {{86}, 1}};

// Lengths around the blocks and pieces of keys that backends work in, cut and answered in two ways.
const std::vector<Script> kBorders = {{{127}, 3}, {{128}, 2}, {{129, 128}, 4}, {{200, 55, 1}, 6}, {{1, 256}, 7}};
const std::vector<Script> kBordersOtherwise = {
    {{64, 63}, 3, 3}, {{1, 127}, 2, 2}, {{257}, 4, 3}, {{17, 239}, 6, 5}, {{130, 127}, 7, 4}};

TEST_P(AttentionOps, FullAttentionMatchesTheReference) {
  struct Case {
    int64_t items, tokens, heads, size;
  };
  for (const Case& c : {Case{1, 1, 1, 1}, Case{2, 5, 3, 7}, Case{3, 49, 2, 72}, Case{1, 100, 4, 16}, Case{2, 65, 1, 33},
                        Case{1, 128, 2, 24}, Case{2, 129, 1, 17}, Case{1, 300, 2, 72}}) {
    const int64_t width = c.heads * c.size;
    Rows qkv = Rows::random(c.items * c.tokens, 3 * width, random_), y(qkv.rows(), width), expected = y;
    ops_->full_attention(y.tensor(), qkv.tensor(), c.heads, c.tokens);
    reference_->full_attention(expected.tensor(), qkv.tensor(), c.heads, c.tokens);
    expect_near(y, expected, attention_tolerance(),
                fmt::format("{} tokens, {} heads of {}", c.tokens, c.heads, c.size));
  }
}

TEST_P(AttentionOps, CachedAttentionMatchesTheReference) {
  for (const Heads& h : {Heads{1, 1, 2}, Heads{4, 4, 16}, Heads{6, 2, 23}, Heads{3, 1, 128}}) {
    const int64_t n = total_rows(kMixed);
    Rows q = Rows::random(n, h.heads * h.size, random_), k = Rows::random(n, h.groups * h.size, random_, 0.5f),
         v = Rows::random(n, h.groups * h.size, random_);
    expect_near(cached(*ops_, h, q, k, v, kMixed), cached(*reference_, h, q, k, v, kMixed), attention_tolerance(),
                fmt::format("{} heads over {} of {}", h.heads, h.groups, h.size));
  }
}

TEST_P(AttentionOps, CachedAttentionDoesNotDependOnChunksOrNeighbours) {
  const Heads h{6, 2, 23};
  const int64_t n = total_rows(kMixed);
  Rows q = Rows::random(n, h.heads * h.size, random_), k = Rows::random(n, h.groups * h.size, random_),
       v = Rows::random(n, h.groups * h.size, random_);
  const Rows together = cached(*ops_, h, q, k, v, kMixed);
  expect_same_rows(together, cached(*ops_, h, q, k, v, kWhole), 2 * attention_tolerance(), "prompts whole");
  int64_t first = 0;
  for (const Script& s : kMixed) {
    const auto part = [&](const Rows& from) {
      Rows rows(s.length(), from.cols());
      for (int64_t r = 0; r < s.length(); ++r) std::copy_n(from.row(first + r), from.cols(), rows.row(r));
      return rows;
    };
    Rows pq = part(q), pk = part(k), pv = part(v);
    expect_same_rows(cached(*ops_, h, pq, pk, pv, {s}), part(together), 2 * attention_tolerance(), "alone");
    first += s.length();
  }
}

TEST_P(AttentionOps, LatentAttentionMatchesTheReference) {
  for (const Latent& l : {Latent{1, 2, 2, 3, 4}, Latent{3, 16, 8, 24, 40}, Latent{9, 31, 14, 17, 65}})
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const int64_t n = total_rows(kMixed);
      const Stored kv_b(dtype, {l.heads * (l.nope + l.v), l.rank}, random_,
                        static_cast<float>(1 / std::sqrt(static_cast<double>(l.rank))));
      Rows q = Rows::random(n, l.heads * (l.nope + l.rope), random_), c_kv = Rows::random(n, l.rank, random_),
           k_pe = Rows::random(n, l.rope, random_);
      expect_near(latent(*ops_, l, kv_b, q, c_kv, k_pe, kMixed), latent(*reference_, l, kv_b, q, c_kv, k_pe, kMixed),
                  attention_tolerance(), fmt::format("{} heads, rank {}", l.heads, l.rank));
    }
}

TEST_P(AttentionOps, LatentAttentionDoesNotDependOnChunksOrNeighbours) {
  const Latent l{9, 31, 14, 17, 65};
  const int64_t n = total_rows(kMixed);
  const Stored kv_b(DType::kBF16, {l.heads * (l.nope + l.v), l.rank}, random_, 0.12f);
  Rows q = Rows::random(n, l.heads * (l.nope + l.rope), random_), c_kv = Rows::random(n, l.rank, random_),
       k_pe = Rows::random(n, l.rope, random_);
  const Rows together = latent(*ops_, l, kv_b, q, c_kv, k_pe, kMixed);
  expect_same_rows(together, latent(*ops_, l, kv_b, q, c_kv, k_pe, kWhole), 2 * attention_tolerance(), "prompts whole");
  int64_t first = 0;
  for (const Script& s : kMixed) {
    const auto part = [&](const Rows& from) {
      Rows rows(s.length(), from.cols());
      for (int64_t r = 0; r < s.length(); ++r) std::copy_n(from.row(first + r), from.cols(), rows.row(r));
      return rows;
    };
    Rows pq = part(q), pc = part(c_kv), pk = part(k_pe);
    expect_same_rows(latent(*ops_, l, kv_b, pq, pc, pk, {s}), part(together), 2 * attention_tolerance(), "alone");
    first += s.length();
  }
}

TEST_P(AttentionOps, CachedAttentionIsTheSameOnBothSidesOfABorder) {
  for (const Heads& h : {Heads{6, 2, 23}, Heads{5, 5, 64}}) {
    const int64_t n = total_rows(kBorders);
    Rows q = Rows::random(n, h.heads * h.size, random_), k = Rows::random(n, h.groups * h.size, random_, 0.5f),
         v = Rows::random(n, h.groups * h.size, random_);
    const Rows rows = cached(*ops_, h, q, k, v, kBorders);
    expect_near(rows, cached(*reference_, h, q, k, v, kBorders), attention_tolerance(), "reference");
    expect_same_rows(rows, cached(*ops_, h, q, k, v, kBordersOtherwise), 2 * attention_tolerance(), "cut otherwise");
  }
}

// One row and several, prompts that end in the middle of a block and at a border.
const std::vector<AttentionOps::Reader> kReaders = {{5, 1}, {8, 3}, {1, 1}, {250, 2}, {3, 5}, {17, 1}, {2, 1}};

TEST_P(AttentionOps, CachedAttentionOfAnswersWithACommonPrefix) {
  for (const Heads& h : {Heads{6, 2, 23}, Heads{5, 5, 64}, Heads{1, 1, 2}}) {
    const int64_t n = rows_behind(kReaders);
    Rows q = Rows::random(n, h.heads * h.size, random_), k = Rows::random(n, h.groups * h.size, random_, 0.5f),
         v = Rows::random(n, h.groups * h.size, random_);
    const Rows rows = cached_behind(*ops_, h, q, k, v, kReaders, true);
    expect_near(rows, cached_behind(*reference_, h, q, k, v, kReaders, true), attention_tolerance(), "reference");
    expect_same_rows(rows, cached_behind(*ops_, h, q, k, v, kReaders, false), 2 * attention_tolerance(), "one by one");
  }
}

// 9 heads: several rows share a group of lanes. 20: a row's heads are in two groups. 70: a row fills more than one.
TEST_P(AttentionOps, LatentAttentionIsTheSameOnBothSidesOfABorder) {
  for (const Latent& l : {Latent{9, 12, 6, 10, 33}, Latent{20, 8, 4, 6, 80}, Latent{70, 4, 2, 3, 16}}) {
    const int64_t n = total_rows(kBorders);
    const Stored kv_b(DType::kBF16, {l.heads * (l.nope + l.v), l.rank}, random_,
                      static_cast<float>(1 / std::sqrt(static_cast<double>(l.rank))));
    Rows q = Rows::random(n, l.heads * (l.nope + l.rope), random_), c_kv = Rows::random(n, l.rank, random_),
         k_pe = Rows::random(n, l.rope, random_);
    const Rows rows = latent(*ops_, l, kv_b, q, c_kv, k_pe, kBorders);
    expect_near(rows, latent(*reference_, l, kv_b, q, c_kv, k_pe, kBorders), attention_tolerance(),
                fmt::format("{} heads, reference", l.heads));
    expect_same_rows(rows, latent(*ops_, l, kv_b, q, c_kv, k_pe, kBordersOtherwise), 2 * attention_tolerance(),
                     fmt::format("{} heads, cut otherwise", l.heads));
  }
}

// Absorbing and expanding are two orders of the same sums (spec: model 8).
TEST_P(AttentionOps, AnswerRowsAgreeWithPromptRows) {
  const Latent l{3, 16, 8, 24, 40};
  const std::vector<Script> as_answer = {{{300}, 9}}, as_prompt = {{{309}, 0}};
  const Stored kv_b(DType::kBF16, {l.heads * (l.nope + l.v), l.rank}, random_, 0.15f);
  Rows q = Rows::random(309, l.heads * (l.nope + l.rope), random_), c_kv = Rows::random(309, l.rank, random_),
       k_pe = Rows::random(309, l.rope, random_);
  expect_near(latent(*ops_, l, kv_b, q, c_kv, k_pe, as_answer), latent(*ops_, l, kv_b, q, c_kv, k_pe, as_prompt),
              attention_tolerance(), "latent");
}

// A cache of fewer bytes stores what it can say as it is: then nothing else may differ from the reference.
class NarrowCache : public AttentionOps {
 protected:
  // Rows of segments of `size` values, which begin at column `from` of the stored ones. In 8 bits: whole numbers times
  // a scale that differs from group to group and from row to row; the first of each group of 128 is the largest.
  Rows representable(int64_t rows, int64_t cols, int64_t size, float scale = 1.0f, int64_t from = 0) {
    Rows result = Rows::random(rows, cols, random_, scale);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) {
        float& x = result.row(r)[c];
        if (int8_cache()) {
          const int64_t column = from + c % size;
          const float step = scale / 64 * (column / 128 % 2 == 0 ? 1.0f : 0.5f) * (r % 3 == 0 ? 1.0f : 0.5f);
          x = step * (column % 128 == 0 ? 127 : static_cast<float>(random_.below(255)) - 127);
        } else {
          x = to_float(to_bf16(x));
        }
      }
    return result;
  }
  // Of answers over latents: where queries and weights are rounded as well, by 2^-9 each.
  double answer_tolerance() const { return rounds_activations() ? 2.0 / 512 : attention_tolerance(); }
  static Rows answers(const Rows& all, const std::vector<Script>& scripts) {
    int64_t count = 0, first = 0, to = 0;
    for (const Script& s : scripts) count += s.answer;
    Rows result(count, all.cols());
    for (const Script& s : scripts) {
      for (int64_t i = s.prompt(); i < s.length(); ++i, ++to)
        std::copy_n(all.row(first + i), all.cols(), result.row(to));
      first += s.length();
    }
    return result;
  }
};

TEST_P(NarrowCache, KeysAndValuesAreWhatWasStored) {
  for (const Heads& h : {Heads{1, 1, 2}, Heads{6, 2, 23}, Heads{5, 5, 64}, Heads{3, 1, 128}, Heads{2, 2, 150}}) {
    const int64_t n = total_rows(kBorders);
    Rows q = Rows::random(n, h.heads * h.size, random_), k = representable(n, h.groups * h.size, h.size, 0.5f),
         v = representable(n, h.groups * h.size, h.size);
    const Rows rows = cached(*ops_, h, q, k, v, kBorders);
    expect_near(rows, cached(*reference_, h, q, k, v, kBorders), attention_tolerance(),
                fmt::format("{} heads over {} of {}", h.heads, h.groups, h.size));
    expect_same_rows(rows, cached(*ops_, h, q, k, v, kBordersOtherwise), 2 * attention_tolerance(), "cut otherwise");
  }
}

// So few that the cache is widened on the way, one block at a time: before, across and behind a block's border.
TEST_P(NarrowCache, AFewPromptRowsBehindACachedPrefix) {
  const Heads h{3, 3, 40};
  const std::vector<Script> few = {{{250, 20, 3}, 2}, {{7, 1}, 1}, {{530, 31}}},
                            whole = {{{273}, 2}, {{8}, 1}, {{561}}};
  const int64_t n = total_rows(few);
  Rows q = Rows::random(n, h.heads * h.size, random_), k = representable(n, h.groups * h.size, h.size, 0.5f),
       v = representable(n, h.groups * h.size, h.size);
  const Rows rows = cached(*ops_, h, q, k, v, few);
  expect_near(rows, cached(*reference_, h, q, k, v, few), attention_tolerance(), "reference");
  expect_same_rows(rows, cached(*ops_, h, q, k, v, whole), 2 * attention_tolerance(), "prompts whole");
}

TEST_P(NarrowCache, AnswersWithACommonPrefix) {
  for (const Heads& h : {Heads{6, 2, 23}, Heads{5, 5, 64}}) {
    const int64_t n = rows_behind(kReaders);
    Rows q = Rows::random(n, h.heads * h.size, random_), k = representable(n, h.groups * h.size, h.size, 0.5f),
         v = representable(n, h.groups * h.size, h.size);
    const Rows rows = cached_behind(*ops_, h, q, k, v, kReaders, true);
    expect_near(rows, cached_behind(*reference_, h, q, k, v, kReaders, true), attention_tolerance(), "reference");
    expect_same_rows(rows, cached_behind(*ops_, h, q, k, v, kReaders, false), 2 * attention_tolerance(), "one by one");
  }
}

TEST_P(NarrowCache, LatentsAreWhatWasStored) {
  for (const Latent& l : {Latent{9, 12, 6, 10, 33}, Latent{20, 8, 4, 6, 80}, Latent{3, 16, 8, 24, 40},
                          Latent{2, 8, 16, 8, 128}, Latent{3, 16, 8, 24, 300}}) {
    const int64_t n = total_rows(kBorders);
    const Stored kv_b(DType::kBF16, {l.heads * (l.nope + l.v), l.rank}, random_,
                      static_cast<float>(1 / std::sqrt(static_cast<double>(l.rank))));
    Rows q = Rows::random(n, l.heads * (l.nope + l.rope), random_), c_kv = representable(n, l.rank, l.rank),
         k_pe = representable(n, l.rope, l.rope, 1.0f, l.rank);
    const std::string what = fmt::format("{} heads, rank {}", l.heads, l.rank);
    const Rows rows = latent(*ops_, l, kv_b, q, c_kv, k_pe, kBorders),
               expected = latent(*reference_, l, kv_b, q, c_kv, k_pe, kBorders);
    expect_near(rows, expected, attention_tolerance(), what);
    expect_near(answers(rows, kBorders), answers(expected, kBorders), answer_tolerance(), what + ", answers");
    expect_same_rows(rows, latent(*ops_, l, kv_b, q, c_kv, k_pe, kBordersOtherwise), 2 * attention_tolerance(),
                     "cut otherwise");
  }
}

VL2_FOR_EVERY_BACKEND(AttentionOps);
INSTANTIATE_TEST_SUITE_P(Backends, NarrowCache, testing::ValuesIn(narrow_cache_backends()), backend_test_name);

}  // namespace
}  // namespace vl2::conformance
