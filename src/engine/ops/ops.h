// The operations a model is made of. A backend implements them; the model is written once on top.
//
// Public functions check shapes and feed the observer; the private virtuals do the work. Fused operations have a
// default body made of the plain ones, so a backend need not know them, and one test asserts that an override equals
// its default. All activations are float32 views in this backend's Workspace. One thread drives an Ops; it spreads work
// itself, and may return before the work is done: download() and choose_ids() wait for what they need.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/tensor_view.h"
#include "core/model_spec/model_config.h"
#include "engine/ops/choice.h"
#include "engine/ops/op_work.h"
#include "engine/ops/tensor.h"
#include "engine/ops/weight.h"

namespace vl2 {

enum class GeluKind { kTanh, kErf };

// kHalfSplit rotates (x[k], x[k + d/2]). kInterleaved rotates (x[2k], x[2k + 1]) and leaves the result in half-split
// order, evens first (spec: model 6.5; golden quirk 11).
enum class RopeLayout { kHalfSplit, kInterleaved };

struct RouterParams {
  TopkMethod topk_method = TopkMethod::kGreedy;
  ScoringFunc scoring_func = ScoringFunc::kSoftmax;
  int64_t top_k = 1;
  int64_t num_groups = 1;
  int64_t topk_groups = 1;
  bool norm_topk_prob = false;
  float routed_scaling_factor = 1.0f;
};

// Chosen experts of every token, sorted by expert number within a token, so that sums have one order. The spans lie in
// the backend's memory, as tensors do.
struct Routing {
  int64_t num_tokens = 0;
  int64_t num_experts = 0;
  int64_t top_k = 0;
  std::span<int32_t> expert;  // [num_tokens * top_k]
  std::span<float> weight;    // [num_tokens * top_k], final: after normalisation and scaling
  std::span<float> scores;    // [num_tokens * num_experts], softmax or sigmoid of the router's logits
  std::span<float> choice;    // [num_tokens * num_experts], scores + bias; the same memory as scores without a bias
};

struct ExpertWeights {
  std::vector<GatedMlp> experts;
};

// Values on the host: a copy of what lies in a device's memory, or a view of what was on the host all along.
struct HostTensor {
  Tensor values;
  std::vector<float> memory;  // empty: values is a view of the backend's own
};
struct HostRouting {
  Routing values;
  std::vector<int32_t> expert;
  std::vector<float> weight, scores, choice;
};

// Called around every operation; for timing, benchmarks and op traces.
class OpObserver {
 public:
  virtual ~OpObserver() = default;
  // What the operation that comes next must do at least.
  virtual void work(std::string_view op, const OpWork& work) { (void)op, (void)work; }
  virtual void before(std::string_view op) { (void)op; }
  // One line: the op and the shapes it worked on, e.g. "linear [421, 192] x [576, 192]".
  virtual void after(std::string_view op, const std::string& shapes) = 0;
};

// Sees every row that a matrix is multiplied with, for calibration; not those of a router or of latent attention's
// kv_b.
class InputTap {
 public:
  virtual ~InputTap() = default;
  virtual void input(const Weight& matrix, Tensor x) = 0;
};

class Ops {
 public:
  explicit Ops(std::shared_ptr<MemorySource> memory = host_memory()) : workspace_(std::move(memory)) {}
  virtual ~Ops() = default;
  virtual std::string_view name() const = 0;  // "reference", "cpu"
  // What runs, for people: "cpu, avx512 kernels, float32 arithmetic, 2 threads".
  virtual std::string description() const { return std::string(name()); }
  // What happened so far, for people; empty: nothing to tell.
  virtual std::string counts() const { return {}; }

  Workspace& workspace() { return workspace_; }
  // Of every tensor this backend reads or writes; further workspaces take theirs from here too.
  const std::shared_ptr<MemorySource>& memory() const { return workspace_.source(); }
  bool on_host() const { return memory()->on_host(); }

  void wait() { do_wait(); }  // until all work is done; for whoever looks at the clock

  // Between the host and the memory of activations: rows x heads x cols without gaps on the host's side. download waits
  // for the values; what was uploaded may be changed at once.
  void upload(Tensor to, std::span<const float> from);
  void download(std::span<float> to, Tensor from);
  // For whoever only looks: valid until the tensor is written or its scope ends.
  HostTensor to_host(Tensor values);
  HostRouting to_host(const Routing& routing);

  // fn(i) for every i in [0, count), side by side on the threads of this host that the backend would use; none may
  // throw or start an operation.
  void on_host_threads(int64_t count, const std::function<void(int64_t)>& fn) { do_on_host_threads(count, fn); }

  // Runs `work`, whose operations a backend may record to repeat them without being asked one by one, when a later call
  // has an equal `identity` and sequences of the same numbers of rows. `identity` tells all that `work` depends on but
  // the sequences, what lies in tensors, weights and caches, and the workspace: addresses and sizes of what it was
  // given. `work` may use no values of the host but these, must not read results, and may run again after it has
  // thrown.
  void repeat(std::span<const int64_t> identity, std::span<const SequenceSlice> sequences,
              const std::function<void()>& work);

  void set_observer(OpObserver* observer) { observer_ = observer; }  // nullptr: none; must outlive its use

  // nullptr: none; must outlive its use. While there is one, SwiGLU and experts run as their plain parts.
  void set_input_tap(InputTap* tap) { tap_ = tap; }

  // --- weights and caches; `tensor` is read during the call only ---
  // With an `owner` that keeps its bytes alive, a backend may go on reading them instead of copying.
  Weight pack(const TensorView& tensor, WeightUse use, const std::shared_ptr<const void>& owner = nullptr);
  // A matrix to multiply with that is stored as kernels read it; `owner` keeps its bytes alive.
  Weight adopt(const PanelMatrix& matrix, const std::shared_ptr<const void>& owner);
  // kv_b: [heads * (qk_nope + v), rank]
  LatentWeights pack_latent(const TensorView& kv_b, int64_t heads, int64_t qk_nope, int64_t v);
  LatentWeights adopt_latent(const LatentPanels& kv_b, const std::shared_ptr<const void>& owner);
  // Who packs and multiplies the routed experts of a decoder layer: this backend, or another it keeps for those it has
  // no room for. What that packed is given to this backend's operations all the same.
  virtual Ops& expert_home(int64_t layer) { return (void)layer, *this; }
  virtual std::unique_ptr<KvCache> make_cache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width) = 0;

  // --- rows ---
  void embed(Tensor out_TD, const Weight& table, std::span<const int32_t> ids);  // out[t] = table[ids[t]]
  void gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows);         // out[i] = x[rows[i]]
  void scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows);        // out[rows[i]] = x[i]
  void fill_row(Tensor out, int64_t row, const Weight& vector);                  // out[row] = vector
  void add_rows(Tensor x, const Weight& table);                                  // x[t] += table[t % table.out]
  void add(Tensor x, Tensor y);                                                  // x += y

  // --- norms: statistics in float32, y = (x / rms) * w, and y = (x - mean) / std * w + b ---
  void rms_norm(Tensor out, Tensor x, const Weight& weight, float eps);
  void layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps);

  // --- matrices: out[t] = W x[t] (+ b) ---
  void linear(Tensor out, Tensor x, const Linear& w);
  void gelu(Tensor x, GeluKind kind);
  void silu_mul(Tensor gate, Tensor up);                                   // gate = silu(gate) * up
  void linear_gelu(Tensor out, Tensor x, const Linear& w, GeluKind kind);  // fused
  void linear_add(Tensor residual, Tensor x, const Linear& w);             // fused: residual += W x (+ b)
  void swiglu(Tensor out, Tensor x, const GatedMlp& mlp);                  // fused
  // Fused: outs[i] = W_i x (+ b_i), several matrices that read the same rows.
  void linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws);

  // --- attention ---
  // x [T, H, R] in place; cos and sin [T, R / 2] for each row's position.
  void rope(Tensor x_THR, Tensor cos_TR, Tensor sin_TR, RopeLayout layout);
  // Fused: the queries and the keys of the same rows; x and y differ in their heads alone.
  void rope_pair(Tensor x_THR, Tensor y_TGR, Tensor cos_TR, Tensor sin_TR, RopeLayout layout);
  // Non-causal attention inside items of tokens_per_item rows; qkv [T, 3 * H * K] as [q | k | v], out [T, H * K].
  void full_attention(Tensor out_TD, Tensor qkv, int64_t heads, int64_t tokens_per_item);
  // Fused, the two halves of an encoder's block: x += proj(full_attention(qkv(norm(x)))), x += fc2(gelu(fc1(norm(x)))).
  // A backend without them runs, and shows an observer, the plain operations.
  void norm_attention_add(Tensor x_TD, const LayerNorm& norm, const Linear& qkv, const Linear& proj, int64_t heads,
                          int64_t tokens_per_item);
  void norm_mlp_add(Tensor x_TD, const LayerNorm& norm, const Linear& fc1, GeluKind kind, const Linear& fc2);
  // Causal attention over the cached keys and values of each sequence; k and v (after RoPE) are appended first.
  // q [T, H, K], k and v [T, G, K], out [T, H * K]; head h reads key head h / (H / G). Cache width: 2 * G * K.
  // probe (optional, for traces): receives every softmax, [T, H, longest past + count], zero beyond a row's own tokens.
  void cached_attention(Tensor out, Tensor q_THK, Tensor k_TGK, Tensor v_TGK, KvLayer kv,
                        std::span<const SequenceSlice> sequences, float scale, Tensor probe = {});
  // Causal multi-head latent attention; c_kv [T, rank] (normalised) and k_pe [T, R] (after RoPE) are appended first.
  // q [T, H, qk_nope + R], out [T, H * v]. Cache width: rank + R. Expanding keys and values or absorbing W_UK and W_UV
  // is the backend's choice (spec: model 8).
  void latent_attention(Tensor out, Tensor q_THK, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                        std::span<const SequenceSlice> sequences, float scale, Tensor probe = {});

  // --- mixture of experts ---
  // gate [E, D]; bias [E] is used for the choice alone (kNoauxTc), empty otherwise. Spans are taken from the workspace.
  Routing route(Tensor x_TD, const Weight& gate, const Weight& bias, const RouterParams& params);
  void routed_experts(Tensor out_TD, Tensor x_TD, const Routing& routing, const ExpertWeights& experts);  // out = sum
  // Fused: the routed experts' sum plus `shared` of every token.
  void all_experts(Tensor out_TD, Tensor x_TD, const Routing& routing, const ExpertWeights& experts,
                   const GatedMlp& shared);
  // Fused: residual += that.
  void all_experts_add(Tensor residual_TD, Tensor x_TD, const Routing& routing, const ExpertWeights& experts,
                       const GatedMlp& shared);

  // --- vision and output ---
  // x [items * grid * grid, C] -> out [items * side * side, C * ratio^2], side = ceil(grid / ratio), zeros beyond the
  // grid; channel-major features: c * ratio^2 + dy * ratio + dx (spec: model 4).
  void pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio);
  // pixels [items, 3, size, size] -> out [items * grid * grid, 3 * patch * patch]: each patch as the row its weights
  // expect.
  void extract_patches(Tensor out, std::span<const float> pixels, int64_t image_size, int64_t patch);
  // Of each row one of its first num_ids, by its rule; no rules: the first of the largest.
  void choose_ids(std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules, int64_t num_ids);

 protected:
  // Fused operations; the default bodies are composed of the plain ones.
  virtual void do_linear_gelu(Tensor out, Tensor x, const Linear& w, GeluKind kind);
  virtual void do_linear_add(Tensor residual, Tensor x, const Linear& w);
  virtual void do_swiglu(Tensor out, Tensor x, const GatedMlp& mlp);
  virtual void do_linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws);
  virtual void do_all_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                              const GatedMlp& shared);
  virtual void do_all_experts_add(Tensor residual, Tensor x, const Routing& routing, const ExpertWeights& experts,
                                  const GatedMlp& shared);
  virtual void do_rope_pair(Tensor x, Tensor y, Tensor cos, Tensor sin, RopeLayout layout);
  // Whether the backend has bodies of its own for the halves of an encoder's block with these two matrices.
  virtual bool fuses(const Linear&, const Linear&) const { return false; }
  virtual void do_norm_attention_add(Tensor x, const LayerNorm& norm, const Linear& qkv, const Linear& proj,
                                     int64_t heads, int64_t tokens_per_item);
  virtual void do_norm_mlp_add(Tensor x, const LayerNorm& norm, const Linear& fc1, GeluKind kind, const Linear& fc2);

 private:
  void tap(const Linear& w, Tensor x) {
    if (tap_ != nullptr) tap_->input(w.weight, to_host(x).values);
  }
  template <typename Count, typename Run, typename Shapes>
  void observed(std::string_view op, const Count& count, const Run& run, const Shapes& shapes);
  void experts_by_parts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts);
  virtual void do_repeat(std::span<const int64_t>, std::span<const SequenceSlice>, const std::function<void()>& work) {
    work();
  }
  virtual void do_on_host_threads(int64_t count, const std::function<void(int64_t)>& fn) {
    for (int64_t i = 0; i < count; ++i) fn(i);
  }
  virtual void do_wait() {}  // for all work, where a backend returns before it is done: an observer looks at the clock
  // Rows of `width` bytes, the pitches apart; one row is any piece of memory. Never called where on_host().
  virtual void do_upload(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows);
  virtual void do_download(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows);
  virtual Weight do_pack(const TensorView& tensor, WeightUse use, const std::shared_ptr<const void>& owner) = 0;
  virtual Weight do_adopt(const PanelMatrix& matrix, const std::shared_ptr<const void>& owner) = 0;
  virtual Weight do_adopt_latent(const LatentPanels& kv_b, const std::shared_ptr<const void>& owner) = 0;
  virtual Weight do_pack_latent(const TensorView& kv_b, int64_t heads, int64_t qk_nope, int64_t v) = 0;
  virtual void do_embed(Tensor out, const Weight& table, std::span<const int32_t> ids) = 0;
  virtual void do_gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows) = 0;
  virtual void do_scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows) = 0;
  virtual void do_fill_row(Tensor out, int64_t row, const Weight& vector) = 0;
  virtual void do_add_rows(Tensor x, const Weight& table) = 0;
  virtual void do_add(Tensor x, Tensor y) = 0;
  virtual void do_rms_norm(Tensor out, Tensor x, const Weight& weight, float eps) = 0;
  virtual void do_layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps) = 0;
  virtual void do_linear(Tensor out, Tensor x, const Linear& w) = 0;
  virtual void do_gelu(Tensor x, GeluKind kind) = 0;
  virtual void do_silu_mul(Tensor gate, Tensor up) = 0;
  virtual void do_rope(Tensor x, Tensor cos, Tensor sin, RopeLayout layout) = 0;
  virtual void do_full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item) = 0;
  virtual void do_cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                                   std::span<const SequenceSlice> sequences, float scale, Tensor probe) = 0;
  virtual void do_latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                                   std::span<const SequenceSlice> sequences, float scale, Tensor probe) = 0;
  virtual void do_route(Routing& routing, Tensor x, const Weight& gate, const Weight& bias, const RouterParams& p) = 0;
  virtual void do_routed_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) = 0;
  virtual void do_pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio) = 0;
  virtual void do_extract_patches(Tensor out, std::span<const float> pixels, int64_t image_size, int64_t patch) = 0;
  // The default is of tensors on the host.
  virtual void do_choose_ids(std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules,
                             int64_t num_ids);

  Workspace workspace_;
  OpObserver* observer_ = nullptr;
  InputTap* tap_ = nullptr;
};

}  // namespace vl2
