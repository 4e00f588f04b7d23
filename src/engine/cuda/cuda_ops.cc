#include "engine/cuda/cuda_ops.h"

#include <algorithm>

#include "core/base/thread_pool.h"
#include "engine/cuda/cuda_cache.h"
#include "engine/cuda/cuda_context.h"
#include "engine/cuda/cuda_experts.h"
#include "engine/cuda/cuda_weights.h"
#include "engine/cuda/host_experts.h"
#include "engine/cuda/kernels/rows.h"
#include "engine/cuda/recorded_steps.h"

namespace vl2 {
namespace {

using cuda::CudaContext;
using cuda::Device;
using cuda::MatrixFormat;
using cuda::rows_view;
using cuda::table;
using cuda::vector;

class DeviceMemory : public MemorySource {
 public:
  explicit DeviceMemory(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  std::byte* allocate(size_t bytes) override { return static_cast<std::byte*>(device_->allocate(bytes)); }
  void release(std::byte* memory, size_t) noexcept override { device_->release(memory); }
  bool on_host() const override { return false; }

 private:
  std::shared_ptr<Device> device_;
};

class CudaOps : public Ops {
 public:
  CudaOps(const std::shared_ptr<Device>& device, const CudaOptions& options)
      : Ops(std::make_shared<DeviceMemory>(device)),
        device_(device),
        compute_(options.compute),
        bf16_cache_(options.bf16_cache),
        host_experts_(options.expert_host, options.expert_layers),
        weights_(device),
        tables_(*device),
        experts_(*device),
        steps_(*device),
        context_{*device, workspace(), tables_, options.compute == Compute::kBF16} {}

  std::string_view name() const override { return device_->is_software() ? "cuda-software" : "cuda"; }
  std::string description() const override {
    const cuda::DeviceProperties& p = device_->properties();
    std::string text =
        fmt::format("{}, {}, {} arithmetic", name(), p.name, context_.bf16_compute ? "bfloat16" : "float32");
    if (host_experts_)
      text += fmt::format("; experts of layers {} and later: {}", host_experts_.first_layer(),
                          host_experts_.ops().description());
    return text;
  }

  std::string counts() const override { return steps_.enabled() ? steps_.counts() : ""; }

  std::unique_ptr<KvCache> make_cache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width) override {
    steps_.forget();
    return std::make_unique<cuda::CudaCache>(device_, bf16_cache_ || context_.bf16_compute, layers, blocks,
                                             block_tokens, width);
  }

  Ops& expert_home(int64_t layer) override { return host_experts_.holds(layer) ? host_experts_.ops() : *this; }

 private:
  cuda::Stream stream() const { return device_->stream(); }

  // Auto: the first matrix decides for the model.
  void decide_compute(bool narrow_weights) {
    if (compute_ != Compute::kAuto) return;
    compute_ = narrow_weights ? Compute::kBF16 : Compute::kF32;
    context_.bf16_compute = compute_ == Compute::kBF16;
  }
  MatrixFormat matrix_format(DType stored) const {
    return stored == DType::kBF16 || context_.bf16_compute ? MatrixFormat::kBf16 : MatrixFormat::kF32;
  }
  // Of W_kvb, which is multiplied with cached latents of the compute type; and what codes of it are widened to.
  MatrixFormat widened() const { return context_.bf16_compute ? MatrixFormat::kBf16 : MatrixFormat::kF32; }

  // The lists' places and the layout of grids are part of what kernels were given; so are the workspace's, which must
  // stand where it stood, and memory that other operations may have replaced.
  void do_repeat(std::span<const int64_t> identity, std::span<const SequenceSlice> sequences,
                 const std::function<void()>& work) override {
    // What waits for the host in between is no recording.
    if (host_experts_ || !steps_.enabled() || !cuda::worth_recording(sequences)) return work();
    const cuda::SequencesView view = tables_.view(sequences);
    std::vector<int64_t> key(identity.begin(), identity.end());
    Workspace::Scope scope(workspace());
    for (const void* p : {static_cast<const void*>(view.sequences), experts_.counters_place(),
                          static_cast<const void*>(workspace().bytes(1))})
      key.push_back(reinterpret_cast<intptr_t>(p));
    key.insert(key.end(), {view.longest_context, workspace().changes()});
    for (const SequenceSlice& s : sequences) key.push_back(s.count);
    steps_.run(std::move(key), work);
  }
  void do_wait() override { device_->synchronize(); }
  // The card has nothing to do meanwhile.
  void do_on_host_threads(int64_t count, const std::function<void(int64_t)>& fn) override {
    if (count == 1) return fn(0);
    if (pool_ == nullptr) pool_ = std::make_unique<ThreadPool>(std::min(ThreadPool::default_num_threads(), 16));
    pool_->parallel_for(count, [&](int64_t i, int) { fn(i); });
  }
  void do_upload(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows) override {
    device_->upload_rows(to, to_pitch, from, from_pitch, width, rows);
  }
  void do_download(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows) override {
    device_->download_rows(to, to_pitch, from, from_pitch, width, rows);
  }

  Weight do_pack(const TensorView& tensor, WeightUse use, const std::shared_ptr<const void>&) override {
    steps_.forget();
    if (use == WeightUse::kVector) return {weights_.vector(tensor)};
    if (use == WeightUse::kLookup) return {weights_.table(tensor)};
    const int64_t n = tensor.shape[0], k = tensor.size() / n;
    // A router is float32 whatever is stored.
    if (use == WeightUse::kRouter) return {weights_.rows(tensor, n, k, MatrixFormat::kF32)};
    decide_compute(tensor.dtype == DType::kBF16);
    return {weights_.rows(tensor, n, k, matrix_format(tensor.dtype))};
  }
  Weight do_adopt(const PanelMatrix& stored, const std::shared_ptr<const void>&) override {
    steps_.forget();
    decide_compute(true);
    if (stored.format == PanelFormat::kBf16) return {weights_.decoded(stored, MatrixFormat::kBf16)};
    return {weights_.panels(stored)};
  }
  Weight do_adopt_latent(const LatentPanels& kv_b, const std::shared_ptr<const void>&) override {
    steps_.forget();
    decide_compute(true);
    return {weights_.decoded(kv_b, widened())};
  }
  Weight do_pack_latent(const TensorView& kv_b, int64_t, int64_t, int64_t) override {
    steps_.forget();
    decide_compute(kv_b.dtype == DType::kBF16);
    return {weights_.rows(kv_b, kv_b.shape[0], kv_b.shape[1], widened())};
  }

  void do_embed(Tensor out, const Weight& weight, std::span<const int32_t> ids) override {
    Workspace::Scope scope(workspace());
    cuda::embed(stream(), rows_view(out), table(weight), context_.uploaded(ids));
  }
  void do_gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    Workspace::Scope scope(workspace());
    cuda::gather_rows(stream(), rows_view(out), rows_view(x), context_.uploaded(rows));
  }
  void do_scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    Workspace::Scope scope(workspace());
    cuda::scatter_rows(stream(), rows_view(out), rows_view(x), context_.uploaded(rows));
  }
  void do_fill_row(Tensor out, int64_t row, const Weight& value) override {
    device_->copy(out.row(row), vector(value), static_cast<size_t>(out.cols) * sizeof(float));
  }
  void do_add_rows(Tensor x, const Weight& weight) override { cuda::add_rows(stream(), rows_view(x), table(weight)); }
  void do_add(Tensor x, Tensor y) override { cuda::add(stream(), rows_view(x), rows_view(y)); }

  void do_rms_norm(Tensor out, Tensor x, const Weight& weight, float eps) override {
    cuda::rms_norm(stream(), rows_view(out), rows_view(x), vector(weight), eps);
  }
  void do_layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps) override {
    cuda::layer_norm(stream(), rows_view(out), rows_view(x), vector(weight), vector(bias), eps);
  }

  void do_linear(Tensor out, Tensor x, const Linear& w) override {
    cuda::linear(context_, out, x, w.weight, w.bias, false);
  }
  void do_linear_add(Tensor residual, Tensor x, const Linear& w) override {
    cuda::linear(context_, residual, x, w.weight, w.bias, true);
  }
  void do_linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws) override {
    cuda::linear_each(context_, outs, x, ws);
  }
  void do_swiglu(Tensor out, Tensor x, const GatedMlp& mlp) override { cuda::swiglu(context_, out, x, mlp); }
  void do_gelu(Tensor x, GeluKind kind) override { cuda::gelu(stream(), rows_view(x), kind == GeluKind::kTanh); }
  void do_silu_mul(Tensor gate, Tensor up) override { cuda::silu_mul(stream(), rows_view(gate), rows_view(up)); }

  void do_rope(Tensor x, Tensor cos, Tensor sin, RopeLayout layout) override {
    VL2_CHECK(x.cols <= 2048, "RoPE over {} columns; the CUDA backend takes 2048", x.cols);
    cuda::rope(stream(), rows_view(x), {}, rows_view(cos), rows_view(sin), layout == RopeLayout::kInterleaved);
  }
  void do_rope_pair(Tensor x, Tensor y, Tensor cos, Tensor sin, RopeLayout layout) override {
    VL2_CHECK(x.cols <= 2048, "RoPE over {} columns; the CUDA backend takes 2048", x.cols);
    cuda::rope(stream(), rows_view(x), rows_view(y), rows_view(cos), rows_view(sin),
               layout == RopeLayout::kInterleaved);
  }
  void do_full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item) override {
    cuda::full_attention(context_, out, qkv, heads, tokens_per_item);
  }
  bool fuses(const Linear& first, const Linear& second) const override {
    return cuda::encoder_is_fused(context_, first, second);
  }
  void do_norm_attention_add(Tensor x, const LayerNorm& norm, const Linear& qkv, const Linear& proj, int64_t heads,
                             int64_t tokens_per_item) override {
    if (!cuda::norm_attention_add(context_, x, norm, qkv, proj, heads, tokens_per_item))
      Ops::do_norm_attention_add(x, norm, qkv, proj, heads, tokens_per_item);
  }
  void do_norm_mlp_add(Tensor x, const LayerNorm& norm, const Linear& fc1, GeluKind kind, const Linear& fc2) override {
    // The library's GELU is the tanh form.
    if (kind != GeluKind::kTanh || !cuda::norm_mlp_add(context_, x, norm, fc1, fc2))
      Ops::do_norm_mlp_add(x, norm, fc1, kind, fc2);
  }
  void do_cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    cuda::cached_attention(context_, out, q, k, v, kv, sequences, scale, probe);
  }
  void do_latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    cuda::latent_attention(context_, out, q, c_kv, k_pe, w, kv, sequences, scale, probe);
  }

  void do_route(Routing& routing, Tensor x, const Weight& gate, const Weight& bias, const RouterParams& p) override {
    experts_.route(context_, routing, x, gate, bias, p);
  }
  void do_routed_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) override {
    if (host_experts_.holds(experts))
      host_experts_.run(context_, out, x, routing, experts, [] {});
    else
      experts_.run(context_, out, x, routing, experts, nullptr);
  }
  void do_all_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                      const GatedMlp& shared) override {
    if (host_experts_.holds(experts)) {
      Workspace::Scope scope(workspace());
      Tensor routed = workspace().tensor(out.rows, out.cols);
      host_experts_.run(context_, routed, x, routing, experts, [&] { cuda::swiglu(context_, out, x, shared); });
      cuda::add(stream(), rows_view(out), rows_view(routed));
    } else {
      experts_.run(context_, out, x, routing, experts, &shared);
    }
  }
  void do_all_experts_add(Tensor residual, Tensor x, const Routing& routing, const ExpertWeights& experts,
                          const GatedMlp& shared) override {
    if (host_experts_.holds(experts))
      Ops::do_all_experts_add(residual, x, routing, experts, shared);
    else
      experts_.run(context_, residual, x, routing, experts, &shared, true);
  }

  void do_pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio) override {
    cuda::pixel_shuffle(stream(), rows_view(out), rows_view(x), grid, ratio);
  }
  void do_extract_patches(Tensor out, std::span<const float> pixels, int64_t size, int64_t patch) override {
    Workspace::Scope scope(workspace());
    cuda::extract_patches(stream(), rows_view(out), context_.uploaded(pixels), size, patch);
  }
  void do_choose_ids(std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules,
                     int64_t num_ids) override {
    cuda::choose_ids(context_, out, logits, rules, num_ids);
  }

  const std::shared_ptr<Device> device_;
  std::unique_ptr<ThreadPool> pool_;  // nullptr: not needed so far
  Compute compute_;
  const bool bf16_cache_;
  const cuda::HostExperts host_experts_;
  cuda::WeightMemory weights_;
  cuda::SequenceTables tables_;
  cuda::ExpertCalls experts_;
  cuda::RecordedSteps steps_;
  CudaContext context_;
};

}  // namespace

int cuda_devices() { return cuda::device_count(); }
bool cuda_is_usable(int device) { return cuda::device_is_usable(device); }

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options) {
  return std::make_unique<CudaOps>(std::shared_ptr<Device>(cuda::open_device(options.device)), options);
}

int64_t cuda_free_memory(int device) { return cuda::free_memory_of(device); }

}  // namespace vl2
