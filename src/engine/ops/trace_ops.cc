#include "engine/ops/trace_ops.h"

#include <algorithm>

namespace vl2 {
namespace {

class NoStorage : public WeightStorage {
 public:
  int64_t num_bytes() const override { return 0; }
};

class NoCache : public KvCache {
 public:
  using KvCache::KvCache;
  NoCache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width)
      : KvCache(layers, blocks, block_tokens, width) {}
  int64_t num_bytes() const override { return 0; }
  void read(int64_t, std::span<const int32_t>, int64_t, float* out) const override { std::fill_n(out, width(), 0.0f); }
};

class TraceOps : public Ops {
 public:
  std::string_view name() const override { return "trace"; }
  std::unique_ptr<KvCache> make_cache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width) override {
    return std::make_unique<NoCache>(layers, blocks, block_tokens, width);
  }

 private:
  Weight do_pack(const TensorView&, WeightUse, const std::shared_ptr<const void>&) override {
    return {std::make_shared<NoStorage>()};
  }
  Weight do_adopt(const PanelMatrix&, const std::shared_ptr<const void>&) override {
    return {std::make_shared<NoStorage>()};
  }
  Weight do_adopt_latent(const LatentPanels&, const std::shared_ptr<const void>&) override {
    return {std::make_shared<NoStorage>()};
  }
  Weight do_pack_latent(const TensorView&, int64_t, int64_t, int64_t) override {
    return {std::make_shared<NoStorage>()};
  }
  void do_embed(Tensor, const Weight&, std::span<const int32_t>) override {}
  void do_gather_rows(Tensor, Tensor, std::span<const int32_t>) override {}
  void do_scatter_rows(Tensor, Tensor, std::span<const int32_t>) override {}
  void do_fill_row(Tensor, int64_t, const Weight&) override {}
  void do_add_rows(Tensor, const Weight&) override {}
  void do_add(Tensor, Tensor) override {}
  void do_rms_norm(Tensor, Tensor, const Weight&, float) override {}
  void do_layer_norm(Tensor, Tensor, const Weight&, const Weight&, float) override {}
  void do_linear(Tensor, Tensor, const Linear&) override {}
  void do_gelu(Tensor, GeluKind) override {}
  void do_silu_mul(Tensor, Tensor) override {}
  void do_rope(Tensor, Tensor, Tensor, RopeLayout) override {}
  void do_full_attention(Tensor, Tensor, int64_t, int64_t) override {}
  void do_cached_attention(Tensor, Tensor, Tensor, Tensor, KvLayer, std::span<const SequenceSlice>, float,
                           Tensor) override {}
  void do_latent_attention(Tensor, Tensor, Tensor, Tensor, const LatentWeights&, KvLayer,
                           std::span<const SequenceSlice>, float, Tensor) override {}
  void do_route(Routing& routing, Tensor, const Weight&, const Weight&, const RouterParams&) override {
    std::fill(routing.expert.begin(), routing.expert.end(), 0);
  }
  void do_routed_experts(Tensor, Tensor, const Routing&, const ExpertWeights&) override {}
  void do_pixel_shuffle(Tensor, Tensor, int64_t, int64_t) override {}
  void do_extract_patches(Tensor, std::span<const float>, int64_t, int64_t) override {}
  void do_choose_ids(std::span<ChosenId> out, Tensor, std::span<const ChoiceRule>, int64_t) override {
    std::fill(out.begin(), out.end(), ChosenId{});
  }
};

}  // namespace

std::unique_ptr<Ops> make_trace_ops() { return std::make_unique<TraceOps>(); }

}  // namespace vl2
