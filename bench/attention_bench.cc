// Attention at the shapes of the releases: a tile of the vision encoder, prompts, and answers behind a long context.
#include <cmath>
#include <numeric>
#include <vector>

#include "bench.h"

namespace vl2::bench {
namespace {

constexpr int64_t kBlockTokens = 16;

struct Case {
  int64_t count;  // new tokens
  int64_t past;
  bool decode;
};
constexpr Case kCases[] = {{512, 0, false}, {512, 1024, false}, {1, 0, true}, {1, 1024, true}, {1, 4096, true}};

const char* kind(const Case& c) { return c.decode ? "answer" : "prompt"; }

// A cache with `past` tokens of one sequence behind which `count` more have room.
struct Context {
  Context(Ops& ops, const Case& c, int64_t width) : blocks((c.past + c.count + kBlockTokens - 1) / kBlockTokens) {
    std::iota(blocks.begin(), blocks.end(), 0);
    cache = ops.make_cache(1, static_cast<int64_t>(blocks.size()), kBlockTokens, width);
    slice = {0, c.count, c.past, blocks, c.decode};
  }
  std::vector<int32_t> blocks;
  std::unique_ptr<KvCache> cache;
  SequenceSlice slice;
};

void full(benchmark::State& state) {
  const auto ops = one_thread(Compute::kF32);
  const int64_t tokens = 729, heads = 16, width = 1152;
  const Tensor qkv = random_tensor(*ops, tokens, 3 * width, 1);
  const Tensor out = ops->workspace().tensor(tokens, width);
  run_op(state, *ops, "_f32", [&] { ops->full_attention(out, qkv, heads, tokens); });
}

// Tiny: 10 heads of 128.
void cached(benchmark::State& state, const Case& c) {
  const auto ops = one_thread(Compute::kF32);
  const int64_t heads = 10, size = 128;
  const auto values = [&](int64_t rows, uint64_t seed) {
    return random_tensor(*ops, rows, heads * size, seed).split_heads(heads);
  };
  Context context(*ops, c, 2 * heads * size);
  const Tensor out = ops->workspace().tensor(std::max(c.count, c.past), heads * size);
  const auto attend = [&](Tensor q, Tensor k, Tensor v, const SequenceSlice& slice) {
    ops->cached_attention(out.row_range(0, slice.count), q, k, v, {context.cache.get(), 0}, {&slice, 1}, 0.088f);
  };
  // The context is written first: pages nobody wrote would all be one page of zeros.
  if (c.past > 0)
    attend(values(c.past, 1), values(c.past, 2), values(c.past, 3), {0, c.past, 0, context.blocks, false});
  const Tensor q = values(c.count, 4), k = values(c.count, 5), v = values(c.count, 6);
  run_op(state, *ops, "_f32", [&] { attend(q, k, v, context.slice); });
}

// Small: 16 heads of 128 + 64, latents of 512.
void latent(benchmark::State& state, const Case& c) {
  const auto ops = one_thread(Compute::kF32);
  const int64_t heads = 16, nope = 128, rope = 64, v = 128, rank = 512;
  std::vector<BF16> kv_b(static_cast<size_t>(heads * (nope + v) * rank));
  Random random(1);
  for (BF16& value : kv_b) value = to_bf16(random.symmetric(0.05f));
  const LatentWeights w = ops->pack_latent(
      {reinterpret_cast<const std::byte*>(kv_b.data()), DType::kBF16, {heads * (nope + v), rank}}, heads, nope, v);
  Context context(*ops, c, rank + rope);
  const Tensor out = ops->workspace().tensor(std::max(c.count, c.past), heads * v);
  const auto attend = [&](Tensor q, Tensor c_kv, Tensor k_pe, const SequenceSlice& slice) {
    ops->latent_attention(out.row_range(0, slice.count), q, c_kv, k_pe, w, {context.cache.get(), 0}, {&slice, 1},
                          0.072f);
  };
  const auto queries = [&](int64_t rows) {
    return random_tensor(*ops, rows, heads * (nope + rope), 2).split_heads(heads);
  };
  if (c.past > 0)
    attend(queries(c.past), random_tensor(*ops, c.past, rank, 3), random_tensor(*ops, c.past, rope, 4),
           {0, c.past, 0, context.blocks, false});
  const Tensor q = queries(c.count), c_kv = random_tensor(*ops, c.count, rank, 5),
               k_pe = random_tensor(*ops, c.count, rope, 6);
  run_op(state, *ops, "_f32", [&] { attend(q, c_kv, k_pe, context.slice); });
}

}  // namespace

void register_attention() {
  benchmark::RegisterBenchmark("attention/full/729x16x72", full)->Unit(benchmark::kMicrosecond);
  for (const Case& c : kCases) {
    benchmark::RegisterBenchmark(fmt::format("attention/cached/{}_{}_after_{}", kind(c), c.count, c.past).c_str(),
                                 [&c](benchmark::State& state) { cached(state, c); })
        ->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(fmt::format("attention/latent/{}_{}_after_{}", kind(c), c.count, c.past).c_str(),
                                 [&c](benchmark::State& state) { latent(state, c); })
        ->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace vl2::bench
