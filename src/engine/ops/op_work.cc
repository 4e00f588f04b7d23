#include "engine/ops/op_work.h"

#include <vector>

#include "engine/ops/ops.h"

namespace vl2 {
namespace {

constexpr double kFloat = sizeof(float);

double real(int64_t n) { return static_cast<double>(n); }

double stored(const Weight& weight) { return weight ? real(weight.storage->num_bytes()) : 0; }
double stored(const GatedMlp& mlp) { return stored(mlp.gate.weight) + stored(mlp.up.weight) + stored(mlp.down.weight); }

double product_flops(const GatedMlp& mlp) {
  return 2 * real(mlp.gate.weight.out * mlp.gate.weight.in + mlp.up.weight.out * mlp.up.weight.in +
                  mlp.down.weight.out * mlp.down.weight.in);
}

double token_bytes(KvLayer kv) {
  const KvCache& cache = *kv.cache;
  return real(cache.num_bytes()) / real(cache.num_layers() * cache.num_blocks() * cache.block_tokens());
}

// Pairs of a new token and one it sees, itself included.
double pairs(const SequenceSlice& s) { return real(s.count) * (real(s.past) + real(s.count + 1) / 2); }

}  // namespace

OpWork& OpWork::operator+=(const OpWork& other) {
  flops += other.flops;
  weight_bytes += other.weight_bytes;
  cache_bytes += other.cache_bytes;
  activation_bytes += other.activation_bytes;
  experts += other.experts;
  return *this;
}

OpWork rows_work(int64_t values) { return {.activation_bytes = kFloat * real(values)}; }

OpWork lookup_work(const Weight& table, int64_t rows, Tensor out) {
  return {.weight_bytes = stored(table) / real(table.out) * real(rows), .activation_bytes = kFloat * real(out.size())};
}

OpWork linear_work(Tensor out, Tensor x, const Weight& weight) {
  return {.flops = 2 * real(x.rows) * real(weight.out * weight.in),
          .weight_bytes = stored(weight),
          .activation_bytes = kFloat * real(x.size() + out.size())};
}

OpWork linear_each_work(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws) {
  OpWork work{.activation_bytes = kFloat * real(x.size())};
  for (size_t i = 0; i < ws.size(); ++i) {
    OpWork one = linear_work(outs[i], x, ws[i]->weight);
    one.activation_bytes -= kFloat * real(x.size());  // read once
    work += one;
  }
  return work;
}

OpWork swiglu_work(Tensor out, Tensor x, const GatedMlp& mlp) {
  return {.flops = real(x.rows) * product_flops(mlp),
          .weight_bytes = stored(mlp),
          .activation_bytes = kFloat * real(x.size() + out.size())};
}

OpWork full_attention_work(Tensor out, Tensor qkv, int64_t tokens_per_item) {
  return {.flops = 4 * real(out.rows) * real(tokens_per_item) * real(out.cols),
          .activation_bytes = kFloat * real(qkv.size() + out.size())};
}

OpWork cached_attention_work(Tensor out, Tensor q, Tensor k, KvLayer kv, std::span<const SequenceSlice> sequences) {
  OpWork work{.activation_bytes = kFloat * real(q.size() + 2 * k.size() + out.size())};
  for (const SequenceSlice& s : sequences) {
    work.flops += 4 * pairs(s) * real(q.heads * q.cols);
    work.cache_bytes += real(s.past + s.count) * token_bytes(kv);
  }
  return work;
}

OpWork latent_attention_work(Tensor out, Tensor q, const LatentWeights& w, KvLayer kv,
                             std::span<const SequenceSlice> sequences) {
  OpWork work{.activation_bytes = kFloat * real(q.size() + out.size())};
  work.weight_bytes = stored(w.weight) * real(w.qk_nope + w.v) / real(2 * w.qk_nope + w.v);
  work.flops = 2 * real(q.rows) * real(w.num_heads * (w.qk_nope + w.v) * w.rank);
  for (const SequenceSlice& s : sequences) {
    work.flops += 2 * pairs(s) * real(w.num_heads * (q.cols + w.v));
    work.cache_bytes += real(s.past + s.count) * token_bytes(kv);
  }
  return work;
}

OpWork routed_experts_work(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) {
  OpWork work{.flops = real(routing.num_tokens * routing.top_k) * product_flops(experts.experts.front()),
              .activation_bytes = kFloat * real(x.size() + out.size())};
  std::vector<bool> chosen(experts.experts.size());
  for (const int32_t e : routing.expert) {
    if (chosen[static_cast<size_t>(e)]) continue;
    chosen[static_cast<size_t>(e)] = true;
    work.weight_bytes += stored(experts.experts[static_cast<size_t>(e)]);
    ++work.experts;
  }
  return work;
}

OpWork all_experts_work(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                        const GatedMlp& shared) {
  OpWork work = routed_experts_work(out, x, routing, experts);
  work.flops += real(x.rows) * product_flops(shared);
  work.weight_bytes += stored(shared);
  return work;
}

}  // namespace vl2
