// What an operation must do and move at least, by its shapes and its packed weights: for benchmarks to divide by.
#pragma once

#include <cstdint>
#include <span>

#include "engine/ops/tensor.h"
#include "engine/ops/weight.h"

namespace vl2 {

struct Routing;
struct ExpertWeights;

struct OpWork {
  double flops = 0;             // multiplications and additions of products, each one operation
  double weight_bytes = 0;      // as packed, read once; of routed experts those that were chosen
  double cache_bytes = 0;       // keys, values, latents read; of decoding and of prompts the same
  double activation_bytes = 0;  // every input read once, every output written once
  int64_t experts = 0;          // distinct routed experts that were chosen

  double bytes() const { return weight_bytes + cache_bytes + activation_bytes; }
  OpWork& operator+=(const OpWork& other);
};

OpWork rows_work(int64_t values);  // of operations that only pass over `values` activations, read and written together
OpWork lookup_work(const Weight& table, int64_t rows, Tensor out);
OpWork linear_work(Tensor out, Tensor x, const Weight& weight);
OpWork linear_each_work(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws);
OpWork swiglu_work(Tensor out, Tensor x, const GatedMlp& mlp);
OpWork full_attention_work(Tensor out, Tensor qkv, int64_t tokens_per_item);
// Scores and mixtures of every query with the keys it sees; keys that sequences share count for each of them.
OpWork cached_attention_work(Tensor out, Tensor q, Tensor k, KvLayer kv, std::span<const SequenceSlice> sequences);
// The smaller arithmetic, that of expanded keys and values; of W_kvb the two parts that either way reads.
OpWork latent_attention_work(Tensor out, Tensor q, const LatentWeights& w, KvLayer kv,
                             std::span<const SequenceSlice> sequences);
OpWork routed_experts_work(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts);
OpWork all_experts_work(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                        const GatedMlp& shared);

}  // namespace vl2
