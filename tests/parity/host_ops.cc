#include "parity/host_ops.h"

#include <algorithm>
#include <initializer_list>

namespace vl2::parity {
namespace {

// The memory of an operation's tensors on the device, gaps between rows and tensors that share memory included: each
// stretch of host memory becomes one stretch there, and goes back as a whole.
class Mirror {
 public:
  Mirror(Ops& inner, std::initializer_list<Tensor> tensors) : inner_(inner), scope_(inner.workspace()) {
    for (const Tensor& t : tensors)
      if (t.data != nullptr && t.size() > 0) pieces_.push_back({t.data, end(t), {}});
    std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
    std::vector<Piece> merged;
    for (const Piece& p : pieces_) {
      if (!merged.empty() && p.begin < merged.back().end)
        merged.back().end = std::max(merged.back().end, p.end);
      else
        merged.push_back(p);
    }
    pieces_ = std::move(merged);
    for (Piece& p : pieces_) {
      p.there = inner_.workspace().tensor(1, p.end - p.begin);
      inner_.upload(p.there, {p.begin, p.end});
    }
  }
  void fetch() {
    for (const Piece& p : pieces_) inner_.download({p.begin, p.end}, p.there);
  }

  Tensor operator()(Tensor t) const {
    if (t.data == nullptr || t.size() == 0) return t;
    for (const Piece& p : pieces_)
      if (t.data >= p.begin && t.data < p.end) {
        t.data = p.there.data + (t.data - p.begin);
        return t;
      }
    fail(ErrorCode::kInternal, "a tensor that was not mirrored");
  }

 private:
  struct Piece {
    float* begin;
    float* end;
    Tensor there;
  };
  static float* end(const Tensor& t) { return t.at(t.rows - 1, t.heads - 1) + t.cols; }

  Ops& inner_;
  Workspace::Scope scope_;
  std::vector<Piece> pieces_;
};

class HostOps : public Ops {
 public:
  explicit HostOps(std::unique_ptr<Ops> inner) : inner_(std::move(inner)) {}
  std::string_view name() const override { return inner_->name(); }
  std::string description() const override { return inner_->description(); }
  std::unique_ptr<KvCache> make_cache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width) override {
    return inner_->make_cache(layers, blocks, block_tokens, width);
  }

 private:
  // run(mirror) between copies of these tensors.
  template <typename Run>
  void mirrored(std::initializer_list<Tensor> tensors, const Run& run) {
    Mirror mirror(*inner_, tensors);
    run(mirror);
    mirror.fetch();
  }

  Weight do_pack(const TensorView& t, WeightUse use, const std::shared_ptr<const void>& owner) override {
    return inner_->pack(t, use, owner);
  }
  Weight do_adopt(const PanelMatrix& m, const std::shared_ptr<const void>& owner) override {
    return inner_->adopt(m, owner);
  }
  Weight do_adopt_latent(const LatentPanels& p, const std::shared_ptr<const void>& owner) override {
    return inner_->adopt_latent(p, owner).weight;
  }
  Weight do_pack_latent(const TensorView& t, int64_t heads, int64_t nope, int64_t v) override {
    return inner_->pack_latent(t, heads, nope, v).weight;
  }
  void do_embed(Tensor out, const Weight& table, std::span<const int32_t> ids) override {
    mirrored({out}, [&](const Mirror& on) { inner_->embed(on(out), table, ids); });
  }
  void do_gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->gather_rows(on(out), on(x), rows); });
  }
  void do_scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->scatter_rows(on(out), on(x), rows); });
  }
  void do_fill_row(Tensor out, int64_t row, const Weight& vector) override {
    mirrored({out}, [&](const Mirror& on) { inner_->fill_row(on(out), row, vector); });
  }
  void do_add_rows(Tensor x, const Weight& table) override {
    mirrored({x}, [&](const Mirror& on) { inner_->add_rows(on(x), table); });
  }
  void do_add(Tensor x, Tensor y) override {
    mirrored({x, y}, [&](const Mirror& on) { inner_->add(on(x), on(y)); });
  }
  void do_rms_norm(Tensor out, Tensor x, const Weight& weight, float eps) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->rms_norm(on(out), on(x), weight, eps); });
  }
  void do_layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->layer_norm(on(out), on(x), weight, bias, eps); });
  }
  void do_linear(Tensor out, Tensor x, const Linear& w) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->linear(on(out), on(x), w); });
  }
  void do_linear_add(Tensor residual, Tensor x, const Linear& w) override {
    mirrored({residual, x}, [&](const Mirror& on) { inner_->linear_add(on(residual), on(x), w); });
  }
  void do_linear_gelu(Tensor out, Tensor x, const Linear& w, GeluKind kind) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->linear_gelu(on(out), on(x), w, kind); });
  }
  void do_swiglu(Tensor out, Tensor x, const GatedMlp& mlp) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->swiglu(on(out), on(x), mlp); });
  }
  // Tests give three.
  void do_linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws) override {
    const auto out = [&](size_t i) { return i < outs.size() ? outs[i] : Tensor{}; };
    VL2_CHECK(outs.size() <= 3);
    mirrored({out(0), out(1), out(2), x}, [&](const Mirror& on) {
      std::vector<Tensor> there;
      for (const Tensor& t : outs) there.push_back(on(t));
      inner_->linear_each(there, on(x), ws);
    });
  }
  void do_gelu(Tensor x, GeluKind kind) override {
    mirrored({x}, [&](const Mirror& on) { inner_->gelu(on(x), kind); });
  }
  void do_silu_mul(Tensor gate, Tensor up) override {
    mirrored({gate, up}, [&](const Mirror& on) { inner_->silu_mul(on(gate), on(up)); });
  }
  void do_rope(Tensor x, Tensor cos, Tensor sin, RopeLayout layout) override {
    mirrored({x, cos, sin}, [&](const Mirror& on) { inner_->rope(on(x), on(cos), on(sin), layout); });
  }
  void do_rope_pair(Tensor x, Tensor y, Tensor cos, Tensor sin, RopeLayout layout) override {
    mirrored({x, y, cos, sin}, [&](const Mirror& on) { inner_->rope_pair(on(x), on(y), on(cos), on(sin), layout); });
  }
  void do_full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens) override {
    mirrored({out, qkv}, [&](const Mirror& on) { inner_->full_attention(on(out), on(qkv), heads, tokens); });
  }
  void do_cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    mirrored({out, q, k, v, probe}, [&](const Mirror& on) {
      inner_->cached_attention(on(out), on(q), on(k), on(v), kv, sequences, scale, on(probe));
    });
  }
  void do_latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    mirrored({out, q, c_kv, k_pe, probe}, [&](const Mirror& on) {
      inner_->latent_attention(on(out), on(q), on(c_kv), on(k_pe), w, kv, sequences, scale, on(probe));
    });
  }
  void do_route(Routing& routing, Tensor x, const Weight& gate, const Weight& bias, const RouterParams& p) override {
    mirrored({x}, [&](const Mirror& on) {
      const HostRouting found = inner_->to_host(inner_->route(on(x), gate, bias, p));
      std::copy(found.expert.begin(), found.expert.end(), routing.expert.begin());
      std::copy(found.weight.begin(), found.weight.end(), routing.weight.begin());
      std::copy(found.scores.begin(), found.scores.end(), routing.scores.begin());
      if (!found.choice.empty()) std::copy(found.choice.begin(), found.choice.end(), routing.choice.begin());
    });
  }
  // Numbers of experts travel as floats do: four bytes each.
  Routing there(const Routing& routing) {
    Routing result = routing;
    Tensor expert = inner_->workspace().tensor(1, static_cast<int64_t>(routing.expert.size()));
    Tensor weight = inner_->workspace().tensor(1, static_cast<int64_t>(routing.weight.size()));
    inner_->upload(expert, {reinterpret_cast<const float*>(routing.expert.data()), routing.expert.size()});
    inner_->upload(weight, routing.weight);
    result.expert = {reinterpret_cast<int32_t*>(expert.data), routing.expert.size()};
    result.weight = {weight.data, routing.weight.size()};
    result.scores = result.choice = {};
    return result;
  }
  void do_routed_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->routed_experts(on(out), on(x), there(routing), experts); });
  }
  void do_all_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                      const GatedMlp& shared) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->all_experts(on(out), on(x), there(routing), experts, shared); });
  }
  void do_all_experts_add(Tensor residual, Tensor x, const Routing& routing, const ExpertWeights& experts,
                          const GatedMlp& shared) override {
    mirrored({residual, x},
             [&](const Mirror& on) { inner_->all_experts_add(on(residual), on(x), there(routing), experts, shared); });
  }
  void do_pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio) override {
    mirrored({out, x}, [&](const Mirror& on) { inner_->pixel_shuffle(on(out), on(x), grid, ratio); });
  }
  void do_extract_patches(Tensor out, std::span<const float> pixels, int64_t size, int64_t patch) override {
    mirrored({out}, [&](const Mirror& on) { inner_->extract_patches(on(out), pixels, size, patch); });
  }
  void do_choose_ids(std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules,
                     int64_t num_ids) override {
    mirrored({logits}, [&](const Mirror& on) { inner_->choose_ids(out, on(logits), rules, num_ids); });
  }

  std::unique_ptr<Ops> inner_;
};

}  // namespace

std::unique_ptr<Ops> on_host(std::unique_ptr<Ops> ops) {
  if (ops->on_host()) return ops;
  return std::make_unique<HostOps>(std::move(ops));
}

}  // namespace vl2::parity
