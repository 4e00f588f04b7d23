#include "engine/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/ops/router.h"
#include "engine/reference/reference_attention.h"
#include "engine/reference/reference_weights.h"

namespace vl2 {
namespace {

using reference::decode_rows;
using reference::dot;
using reference::matrix;
using reference::Matrix;
using reference::vector;

double silu_of(double x) { return x / (1.0 + std::exp(-x)); }

double gelu_of(double x, GeluKind kind) {
  if (kind == GeluKind::kErf) return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  const double inner = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(inner));
}

class ReferenceOps : public Ops {
 public:
  std::string_view name() const override { return "reference"; }

  std::unique_ptr<KvCache> make_cache(int64_t layers, int64_t blocks, int64_t block_tokens, int64_t width) override {
    return std::make_unique<reference::FloatCache>(layers, blocks, block_tokens, width);
  }

 private:
  Weight do_pack(const TensorView& tensor, WeightUse use, const std::shared_ptr<const void>&) override {
    return {
        std::make_shared<Matrix>(tensor, use == WeightUse::kVector ? tensor.size() : tensor.size() / tensor.shape[0])};
  }

  Weight do_adopt(const PanelMatrix& stored, const std::shared_ptr<const void>&) override {
    std::vector<float> values;
    decode_rows(stored, values);
    return {std::make_shared<Matrix>(std::move(values), stored.cols)};
  }

  // W_kvb as it was: each head's W_UK, then its W_UV. The transposed one is the same matrix, stored to be multiplied
  // by.
  Weight do_adopt_latent(const LatentPanels& kv_b, const std::shared_ptr<const void>&) override {
    std::vector<float> values;
    PanelMatrix uk = kv_b.uk, uv = kv_b.uv;
    for (int64_t h = 0; h < kv_b.num_heads; ++h, uk.data += uk.num_bytes(), uv.data += uv.num_bytes()) {
      decode_rows(uk, values);
      decode_rows(uv, values);
    }
    return {std::make_shared<Matrix>(std::move(values), uk.cols)};
  }

  Weight do_pack_latent(const TensorView& kv_b, int64_t, int64_t, int64_t) override {
    return {std::make_shared<Matrix>(kv_b, kv_b.shape[1])};
  }

  void do_embed(Tensor out, const Weight& table, std::span<const int32_t> ids) override {
    for (size_t t = 0; t < ids.size(); ++t)
      std::copy_n(matrix(table).row(ids[t]), out.cols, out.row(static_cast<int64_t>(t)));
  }

  void do_gather_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    for (size_t i = 0; i < rows.size(); ++i) std::copy_n(x.row(rows[i]), x.cols, out.row(static_cast<int64_t>(i)));
  }

  void do_scatter_rows(Tensor out, Tensor x, std::span<const int32_t> rows) override {
    for (size_t i = 0; i < rows.size(); ++i) std::copy_n(x.row(static_cast<int64_t>(i)), x.cols, out.row(rows[i]));
  }

  void do_fill_row(Tensor out, int64_t row, const Weight& value) override {
    std::copy_n(vector(value), out.cols, out.row(row));
  }

  void do_add_rows(Tensor x, const Weight& table) override {
    for (int64_t t = 0; t < x.rows; ++t)
      for (int64_t d = 0; d < x.cols; ++d) x.row(t)[d] += matrix(table).row(t % table.out)[d];
  }

  void do_add(Tensor x, Tensor y) override {
    for (int64_t t = 0; t < x.rows; ++t)
      for (int64_t h = 0; h < x.heads; ++h)
        for (int64_t d = 0; d < x.cols; ++d) x.at(t, h)[d] += y.at(t, h)[d];
  }

  void do_rms_norm(Tensor out, Tensor x, const Weight& weight, float eps) override {
    const float* w = vector(weight);
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t h = 0; h < x.heads; ++h) {
        const float* in = x.at(t, h);
        const double scale =
            1.0 / std::sqrt(dot(in, in, x.cols) / static_cast<double>(x.cols) + static_cast<double>(eps));
        for (int64_t d = 0; d < x.cols; ++d)
          out.at(t, h)[d] = static_cast<float>(static_cast<double>(in[d]) * scale * static_cast<double>(w[d]));
      }
    }
  }

  void do_layer_norm(Tensor out, Tensor x, const Weight& weight, const Weight& bias, float eps) override {
    const float* w = vector(weight);
    const float* b = vector(bias);
    for (int64_t t = 0; t < x.rows; ++t) {
      const float* in = x.row(t);
      double mean = 0, variance = 0;
      for (int64_t d = 0; d < x.cols; ++d) mean += static_cast<double>(in[d]);
      mean /= static_cast<double>(x.cols);
      for (int64_t d = 0; d < x.cols; ++d) variance += std::pow(static_cast<double>(in[d]) - mean, 2);
      const double scale = 1.0 / std::sqrt(variance / static_cast<double>(x.cols) + static_cast<double>(eps));
      for (int64_t d = 0; d < x.cols; ++d)
        out.row(t)[d] = static_cast<float>((static_cast<double>(in[d]) - mean) * scale * static_cast<double>(w[d]) +
                                           static_cast<double>(b[d]));
    }
  }

  void do_linear(Tensor out, Tensor x, const Linear& w) override {
    const float* bias = w.bias ? vector(w.bias) : nullptr;
    for (int64_t o = 0; o < out.cols; ++o) {
      const float* row = matrix(w.weight).row(o);
      const double start = bias != nullptr ? static_cast<double>(bias[o]) : 0.0;
      for (int64_t t = 0; t < x.rows; ++t) out.row(t)[o] = static_cast<float>(start + dot(x.row(t), row, x.cols));
    }
  }

  void do_gelu(Tensor x, GeluKind kind) override {
    for (int64_t t = 0; t < x.rows; ++t)
      for (int64_t d = 0; d < x.cols; ++d)
        x.row(t)[d] = static_cast<float>(gelu_of(static_cast<double>(x.row(t)[d]), kind));
  }

  void do_silu_mul(Tensor gate, Tensor up) override {
    for (int64_t t = 0; t < gate.rows; ++t)
      for (int64_t d = 0; d < gate.cols; ++d)
        gate.row(t)[d] =
            static_cast<float>(silu_of(static_cast<double>(gate.row(t)[d])) * static_cast<double>(up.row(t)[d]));
  }

  void do_rope(Tensor x, Tensor cos, Tensor sin, RopeLayout layout) override {
    const int64_t half = x.cols / 2;
    std::vector<double> rotated(static_cast<size_t>(x.cols));
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t h = 0; h < x.heads; ++h) {
        float* v = x.at(t, h);
        for (int64_t k = 0; k < half; ++k) {
          const bool split = layout == RopeLayout::kHalfSplit;
          const auto a = static_cast<double>(v[split ? k : 2 * k]),
                     b = static_cast<double>(v[split ? k + half : 2 * k + 1]);
          const auto c = static_cast<double>(cos.row(t)[k]), s = static_cast<double>(sin.row(t)[k]);
          rotated[static_cast<size_t>(k)] = a * c - b * s;
          rotated[static_cast<size_t>(k + half)] = b * c + a * s;
        }
        std::transform(rotated.begin(), rotated.end(), v, [](double r) { return static_cast<float>(r); });
      }
    }
  }

  void do_full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item) override {
    reference::full_attention(out, qkv, heads, tokens_per_item);
  }

  void do_cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    reference::cached_attention(out, q, k, v, kv, sequences, scale, probe);
  }

  void do_latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                           std::span<const SequenceSlice> sequences, float scale, Tensor probe) override {
    reference::latent_attention(out, q, c_kv, k_pe, w, kv, sequences, scale, probe);
  }

  void do_route(Routing& routing, Tensor x, const Weight& gate, const Weight& bias, const RouterParams& p) override {
    std::vector<double> logits(static_cast<size_t>(routing.num_experts));
    for (int64_t t = 0; t < x.rows; ++t) {
      for (int64_t e = 0; e < routing.num_experts; ++e) {
        logits[static_cast<size_t>(e)] = dot(x.row(t), matrix(gate).row(e), x.cols);
      }
      route_row(logits, bias ? vector(bias) : nullptr, p, &routing.expert[static_cast<size_t>(t * p.top_k)],
                &routing.weight[static_cast<size_t>(t * p.top_k)],
                &routing.scores[static_cast<size_t>(t * routing.num_experts)],
                &routing.choice[static_cast<size_t>(t * routing.num_experts)]);
    }
  }

  void do_routed_experts(Tensor out, Tensor x, const Routing& routing, const ExpertWeights& experts) override {
    for (int64_t t = 0; t < x.rows; ++t) {
      std::vector<double> sum(static_cast<size_t>(x.cols), 0.0);
      for (int64_t i = t * routing.top_k; i < (t + 1) * routing.top_k; ++i) {
        Workspace::Scope scope(workspace());
        Tensor y = workspace().tensor(1, x.cols);
        do_swiglu(y, x.row_range(t, 1), experts.experts[static_cast<size_t>(routing.expert[static_cast<size_t>(i)])]);
        const auto weight = static_cast<double>(routing.weight[static_cast<size_t>(i)]);
        for (int64_t d = 0; d < x.cols; ++d) sum[static_cast<size_t>(d)] += weight * static_cast<double>(y.row(0)[d]);
      }
      std::transform(sum.begin(), sum.end(), out.row(t), [](double v) { return static_cast<float>(v); });
    }
  }

  void do_pixel_shuffle(Tensor out, Tensor x, int64_t grid, int64_t ratio) override {
    const int64_t side = (grid + ratio - 1) / ratio;
    for (int64_t row = 0; row < out.rows; ++row) {
      const int64_t item = row / (side * side), y = row / side % side, column = row % side;
      for (int64_t dy = 0; dy < ratio; ++dy) {
        for (int64_t dx = 0; dx < ratio; ++dx) {
          const int64_t gy = y * ratio + dy, gx = column * ratio + dx;
          const bool inside = gy < grid && gx < grid;
          for (int64_t c = 0; c < x.cols; ++c)
            out.row(row)[c * ratio * ratio + dy * ratio + dx] =
                inside ? x.row((item * grid + gy) * grid + gx)[c] : 0.0f;
        }
      }
    }
  }

  void do_extract_patches(Tensor out, std::span<const float> pixels, int64_t size, int64_t patch) override {
    const int64_t grid = size / patch;
    for (int64_t row = 0; row < out.rows; ++row) {
      const int64_t item = row / (grid * grid), y = row / grid % grid * patch, x = row % grid * patch;
      for (int64_t c = 0; c < 3; ++c)
        for (int64_t dy = 0; dy < patch; ++dy)
          std::copy_n(&pixels[static_cast<size_t>(((item * 3 + c) * size + y + dy) * size + x)], patch,
                      out.row(row) + (c * patch + dy) * patch);
    }
  }
};

}  // namespace

std::unique_ptr<Ops> make_reference_ops() { return std::make_unique<ReferenceOps>(); }

}  // namespace vl2
