#include "engine/cpu/cpu_ops.h"

#include <algorithm>
#include <cmath>

#include "engine/cpu/cpu_cache.h"
#include "engine/cpu/cpu_context.h"
#include "engine/cpu/kernels/select_kernels.h"
#include "engine/ops/router.h"

namespace vl2 {
namespace {

using cpu::CpuContext;
using cpu::FloatVector;
using cpu::Format;
using cpu::LookupTable;
using cpu::packed;
using cpu::PackedMatrix;
using cpu::vector;

class CpuOps : public Ops {
 public:
  explicit CpuOps(const CpuOptions& options)
      : isa_(options.isa ? require_isa(*options.isa) : choose_isa()),
        compute_(options.compute),
        cache_(options.cache),
        pool_(options.threads > 0 ? options.threads : ThreadPool::default_num_threads()),
        context_{cpu::select_kernels(isa_), pool_, workspace(), options.compute == Compute::kBF16, false} {
    context_.bf16_attention = context_.bf16_compute || (options.bf16_attention && context_.kernels.attend_scores_bf16);
  }

  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("cpu, {} kernels, {} arithmetic, {} threads", context_.kernels.isa,
                       context_.bf16_compute     ? "bfloat16"
                       : context_.bf16_attention ? "float32 and bfloat16"
                                                 : "float32",
                       pool_.num_threads());
  }

  std::unique_ptr<KvCache> make_cache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width) override {
    const bool narrow = cache_ == CacheType::kBF16 || (cache_ != CacheType::kInt8 && context_.bf16_compute);
    return std::make_unique<cpu::CpuCache>(context_.kernels, narrow ? CacheType::kBF16 : cache_, layers, blocks,
                                           block_tokens, width);
  }

 private:
  void do_on_host_threads(int64_t count, const std::function<void(int64_t)>& fn) override {
    pool_.parallel_for(count, [&](int64_t i, int) { fn(i); });
  }
  Weight do_pack(const TensorView& tensor, WeightUse use, const std::shared_ptr<const void>& owner) override {
    if (use == WeightUse::kVector) return {std::make_shared<FloatVector>(tensor)};
    if (use == WeightUse::kLookup && owner != nullptr) return {std::make_shared<LookupTable>(tensor, owner)};
    if (use == WeightUse::kLookup) return {std::make_shared<LookupTable>(tensor, slabs_, pool_)};
    const int64_t n = tensor.shape[0], k = tensor.size() / n;
    // A router is float32 whatever is stored.
    if (use == WeightUse::kLinear) decide_compute(tensor.dtype == DType::kBF16);
    const bool narrow = use == WeightUse::kLinear && (tensor.dtype == DType::kBF16 || context_.bf16_compute);
    auto matrix = std::make_shared<PackedMatrix>(narrow ? Format::kBf16 : Format::kF32, n, k, slabs_);
    pack_into(*matrix, tensor);
    return {matrix};
  }

  // Auto: the first matrix decides for the model.
  void decide_compute(bool narrow_weights) {
    if (compute_ != Compute::kAuto) return;
    compute_ = narrow_weights && isa_ == Isa::kAmx ? Compute::kBF16 : Compute::kF32;
    context_.bf16_compute = compute_ == Compute::kBF16;
    context_.bf16_attention |= context_.bf16_compute;
  }

  Weight do_adopt(const PanelMatrix& matrix, const std::shared_ptr<const void>& owner) override {
    decide_compute(true);
    return {std::make_shared<PackedMatrix>(matrix, owner)};
  }

  Weight do_adopt_latent(const LatentPanels& kv_b, const std::shared_ptr<const void>& owner) override {
    decide_compute(true);
    auto storage = std::make_shared<cpu::LatentStorage>();
    const auto heads = [&](PanelMatrix matrix, std::vector<std::unique_ptr<PackedMatrix>>& list) {
      for (int64_t h = 0; h < kv_b.num_heads; ++h, matrix.data += matrix.num_bytes())
        list.push_back(std::make_unique<PackedMatrix>(matrix, owner));
    };
    heads(kv_b.uk, storage->uk);
    heads(kv_b.uv, storage->uv);
    heads(kv_b.uk_transposed, storage->uk_transposed);
    return {storage};
  }

  void pack_into(PackedMatrix& matrix, const TensorView& tensor) {
    if (matrix.format == Format::kBf16 && tensor.dtype == DType::kBF16) {
      pack_bf16(matrix, tensor.as<BF16>(), pool_);
    } else {
      pack_rows(
          matrix, [&](int64_t row, float* out) { to_floats(tensor, row * matrix.k, matrix.k, out); }, pool_);
    }
  }

  Weight do_pack_latent(const TensorView& kv_b, int64_t heads, int64_t qk_nope, int64_t v) override {
    const int64_t rank = kv_b.shape[1], per_head = qk_nope + v;
    const Format format = kv_b.dtype == DType::kBF16 || context_.bf16_compute ? Format::kBf16 : Format::kF32;
    auto storage = std::make_shared<cpu::LatentStorage>();
    for (int64_t h = 0; h < heads; ++h) {
      const auto row = [&](int64_t first) {
        return [&, first](int64_t r, float* out) { to_floats(kv_b, (h * per_head + first + r) * rank, rank, out); };
      };
      storage->uk.push_back(std::make_unique<PackedMatrix>(format, qk_nope, rank, slabs_));
      pack_rows(*storage->uk.back(), row(0), pool_);
      storage->uv.push_back(std::make_unique<PackedMatrix>(format, v, rank, slabs_));
      pack_rows(*storage->uv.back(), row(qk_nope), pool_);
      std::vector<float> uk(static_cast<size_t>(qk_nope * rank));
      to_floats(kv_b, h * per_head * rank, qk_nope * rank, uk.data());
      storage->uk_transposed.push_back(std::make_unique<PackedMatrix>(format, rank, qk_nope, slabs_));
      pack_rows(
          *storage->uk_transposed.back(),
          [&](int64_t r, float* out) {
            for (int64_t d = 0; d < qk_nope; ++d) out[d] = uk[static_cast<size_t>(d * rank + r)];
          },
          pool_);
    }
    return {storage};
  }

  void do_embed(Tensor out, const Weight& table, std::span<const int32_t> ids) override {
    const TensorView& view = static_cast<const LookupTable&>(*table.storage).view;
    each_row(out.rows, out.cols,
             [&](int64_t t) { to_floats(view, ids[static_cast<size_t>(t)] * out.cols, out.cols, out.row(t)); });
  }

  void do_gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    each_row(out.rows, x.cols,
             [&](int64_t i) { std::copy_n(x.row(rows[static_cast<size_t>(i)]), x.cols, out.row(i)); });
  }

  void do_scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    each_row(x.rows, x.cols, [&](int64_t i) { std::copy_n(x.row(i), x.cols, out.row(rows[static_cast<size_t>(i)])); });
  }

  void do_fill_row(Tensor out, int64_t row, const Weight& value) override {
    std::copy_n(vector(value), out.cols, out.row(row));
  }

  void do_add_rows(Tensor x, const Weight& table) override {
    const TensorView& view = static_cast<const LookupTable&>(*table.storage).view;
    std::vector<float> rows = to_floats(view);
    each_row(x.rows, x.cols,
             [&](int64_t t) { context_.kernels.add_row(x.row(t), rows.data() + t % table.out * x.cols, x.cols); });
  }

  void do_add(Tensor x, Tensor y) override {
    each_row(x.rows, x.heads * x.cols, [&](int64_t t) {
      for (int64_t h = 0; h < x.heads; ++h) context_.kernels.add_row(x.at(t, h), y.at(t, h), x.cols);
    });
  }

  void do_rms_norm(Tensor out, Tensor x, const Weight& weight, float eps) override {
    each_row(x.rows, x.heads * x.cols, [&](int64_t t) {
      for (int64_t h = 0; h < x.heads; ++h)
        context_.kernels.rms_norm_row(out.at(t, h), x.at(t, h), vector(weight), x.cols, eps);
    });
  }

  void do_layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps) override {
    each_row(x.rows, x.cols, [&](int64_t t) {
      context_.kernels.layer_norm_row(out.row(t), x.row(t), vector(weight), vector(bias), x.cols, eps);
    });
  }

  void do_linear(Tensor out, Tensor x, const Linear& w) override {
    cpu::linear(context_, out, x, packed(w.weight), vector(w.bias), cpu::Epilogue::kStore);
  }
  void do_linear_add(Tensor residual, Tensor x, const Linear& w) override {
    cpu::linear(context_, residual, x, packed(w.weight), vector(w.bias), cpu::Epilogue::kAdd);
  }
  void do_linear_gelu(Tensor out, Tensor x, const Linear& w, GeluKind kind) override {
    if (kind == GeluKind::kTanh) {
      cpu::linear(context_, out, x, packed(w.weight), vector(w.bias), cpu::Epilogue::kGeluTanh);
    } else {
      Ops::do_linear_gelu(out, x, w, kind);
    }
  }
  void do_swiglu(Tensor out, Tensor x, const GatedMlp& mlp) override { cpu::swiglu(context_, out, x, mlp); }

  void do_linear_each(std::span<const Tensor> outs, Tensor x, std::span<const Linear* const> ws) override {
    std::vector<cpu::Product> products;
    for (size_t i = 0; i < ws.size(); ++i)
      products.push_back({outs[i], &packed(ws[i]->weight), vector(ws[i]->bias), cpu::Epilogue::kStore});
    cpu::multiply_rows(context_, x, products);
  }
  void do_gelu(Tensor x, GeluKind kind) override {
    each_row(x.rows, 8 * x.cols, [&](int64_t t) {
      float* row = x.row(t);
      if (kind == GeluKind::kTanh) {
        context_.kernels.gelu_tanh_row(row, x.cols);
      } else {
        for (int64_t d = 0; d < x.cols; ++d) row[d] = 0.5f * row[d] * (1.0f + std::erf(row[d] * 0.70710678f));
      }
    });
  }

  void do_silu_mul(Tensor gate, Tensor up) override {
    each_row(gate.rows, 4 * gate.cols,
             [&](int64_t t) { context_.kernels.silu_mul_row(gate.row(t), up.row(t), gate.cols); });
  }

  void do_rope(Tensor x, Tensor cos, Tensor sin, RopeLayout layout) override {
    VL2_CHECK(x.cols <= cpu::kMaxRope, "RoPE over {} columns; the CPU backend has room for {}", x.cols, cpu::kMaxRope);
    const bool interleaved = layout == RopeLayout::kInterleaved;
    each_row(x.rows, x.heads * x.cols, [&](int64_t t) {
      for (int64_t h = 0; h < x.heads; ++h)
        context_.kernels.rope_row(x.at(t, h), cos.row(t), sin.row(t), x.cols / 2, interleaved);
    });
  }

  void do_full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item) override {
    cpu::full_attention(context_, out, qkv, heads, tokens_per_item);
  }
  void do_cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    cpu::cached_attention(context_, out, q, k, v, kv, sequences, scale, probe);
  }
  void do_latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    cpu::latent_attention(context_, out, q, c_kv, k_pe, w, kv, sequences, scale, probe);
  }

  void do_route(Routing& routing, Tensor x, const Weight& gate, const Weight& bias, const RouterParams& p) override {
    Workspace::Scope scope(workspace());
    const int64_t experts = routing.num_experts;
    Tensor logits = workspace().tensor(x.rows, experts);
    cpu::linear(context_, logits, x, packed(gate), nullptr, cpu::Epilogue::kStore);
    context_.for_ranges(x.rows, 8, [&](int64_t begin, int64_t end, int) {
      std::vector<double> row(static_cast<size_t>(experts));
      for (int64_t t = begin; t < end; ++t) {
        std::copy_n(logits.row(t), experts, row.begin());
        route_row(row, vector(bias), p, &routing.expert[static_cast<size_t>(t * p.top_k)],
                  &routing.weight[static_cast<size_t>(t * p.top_k)], &routing.scores[static_cast<size_t>(t * experts)],
                  &routing.choice[static_cast<size_t>(t * experts)]);
      }
    });
  }

  void do_routed_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) override {
    cpu::routed_experts(context_, out, x, routing, experts, nullptr);
  }
  void do_all_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts,
                      const GatedMlp& shared) override {
    // Few rows: one stream of weights after the other. Many: the shared experts' rows want blocks of their own.
    if (x.rows > cpu::kFewRows) return Ops::do_all_experts(out, x, routing, experts, shared);
    cpu::routed_experts(context_, out, x, routing, experts, &shared);
  }

  void do_pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio) override {
    const int64_t side = (grid + ratio - 1) / ratio, square = ratio * ratio;
    each_row(out.rows, out.cols, [&](int64_t row) {
      const int64_t item = row / (side * side), y = row / side % side, column = row % side;
      for (int64_t part = 0; part < square; ++part) {
        const int64_t gy = y * ratio + part / ratio, gx = column * ratio + part % ratio;
        const bool inside = gy < grid && gx < grid;
        const float* in = inside ? x.row((item * grid + gy) * grid + gx) : nullptr;
        for (int64_t c = 0; c < x.cols; ++c) out.row(row)[c * square + part] = inside ? in[c] : 0.0f;
      }
    });
  }

  void do_extract_patches(Tensor out, std::span<const float> pixels, int64_t size, int64_t patch) override {
    const int64_t grid = size / patch;
    each_row(out.rows, out.cols, [&](int64_t row) {
      const int64_t item = row / (grid * grid), y = row / grid % grid * patch, x = row % grid * patch;
      for (int64_t line = 0; line < 3 * patch; ++line) {
        const int64_t channel = line / patch, dy = line % patch;
        std::copy_n(&pixels[static_cast<size_t>(((item * 3 + channel) * size + y + dy) * size + x)], patch,
                    out.row(row) + line * patch);
      }
    });
  }

  // fn(row) for every row; rows of little work together are not worth waking the pool for.
  template <typename Fn>
  void each_row(int64_t rows, int64_t work_per_row, const Fn& fn) {
    constexpr int64_t kWorthAThread = 16384;
    const int64_t smallest = std::max<int64_t>(kWorthAThread / std::max<int64_t>(work_per_row, 1), 1);
    context_.for_ranges(rows, smallest, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) fn(r);
    });
  }

  const Isa isa_;
  Compute compute_;
  const CacheType cache_;
  ThreadPool pool_;
  cpu::SlabAllocator slabs_;
  CpuContext context_;
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) { return std::make_unique<CpuOps>(options); }

}  // namespace vl2
