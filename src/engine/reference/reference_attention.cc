#include "engine/reference/reference_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/reference/reference_weights.h"

namespace vl2::reference {
namespace {

void softmax(std::vector<double>& scores) {
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - max);
  for (double& s : scores) s /= sum;
}

template <typename T>
void add_scaled(std::vector<double>& sum, double factor, const T* values) {
  for (size_t d = 0; d < sum.size(); ++d) sum[d] += factor * static_cast<double>(values[d]);
}

void store(const std::vector<double>& values, float* out) {
  std::transform(values.begin(), values.end(), out, [](double v) { return static_cast<float>(v); });
}

void write_probe(Tensor probe, int64_t row, int64_t head, const std::vector<double>& p) {
  if (probe.data == nullptr) return;
  float* out = probe.at(row, head);
  std::fill_n(out, probe.cols, 0.0f);
  std::transform(p.begin(), p.end(), out, [](double x) { return static_cast<float>(x); });
}

FloatCache& cache_of(KvLayer kv) { return static_cast<FloatCache&>(*kv.cache); }

}  // namespace

void full_attention(Tensor out, Tensor qkv, int64_t heads, int64_t tokens) {
  const int64_t width = out.cols, size = width / heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(size));
  for (int64_t item = 0; item < out.rows / tokens; ++item) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < tokens; ++i) {
        const int64_t row = item * tokens + i;
        std::vector<double> p(static_cast<size_t>(tokens));
        for (int64_t j = 0; j < tokens; ++j)
          p[static_cast<size_t>(j)] =
              scale * dot(qkv.row(row) + h * size, qkv.row(item * tokens + j) + width + h * size, size);
        softmax(p);
        std::vector<double> sum(static_cast<size_t>(size), 0.0);
        for (int64_t j = 0; j < tokens; ++j)
          add_scaled(sum, p[static_cast<size_t>(j)], qkv.row(item * tokens + j) + 2 * width + h * size);
        store(sum, out.row(row) + h * size);
      }
    }
  }
}

void cached_attention(Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv, std::span<const SequenceSlice> sequences,
                      float scale, Tensor probe) {
  FloatCache& cache = cache_of(kv);
  const int64_t size = q.cols, groups = k.heads, heads_per_group = q.heads / groups;
  for (const SequenceSlice& s : sequences) {
    for (int64_t i = 0; i < s.count; ++i) {
      float* row = cache.row(kv.layer, s.blocks, s.past + i);
      for (int64_t g = 0; g < groups; ++g) {
        std::copy_n(k.at(s.begin + i, g), size, row + g * size);
        std::copy_n(v.at(s.begin + i, g), size, row + (groups + g) * size);
      }
    }
    for (int64_t i = 0; i < s.count; ++i) {
      const int64_t row = s.begin + i, length = s.past + i + 1;
      for (int64_t h = 0; h < q.heads; ++h) {
        const int64_t g = h / heads_per_group;
        std::vector<double> p(static_cast<size_t>(length));
        for (int64_t j = 0; j < length; ++j)
          p[static_cast<size_t>(j)] =
              static_cast<double>(scale) * dot(q.at(row, h), cache.row(kv.layer, s.blocks, j) + g * size, size);
        softmax(p);
        write_probe(probe, row, h, p);
        std::vector<double> sum(static_cast<size_t>(size), 0.0);
        for (int64_t j = 0; j < length; ++j)
          add_scaled(sum, p[static_cast<size_t>(j)], cache.row(kv.layer, s.blocks, j) + (groups + g) * size);
        store(sum, out.row(row) + h * size);
      }
    }
  }
}

// The expanded form, as the paper writes it: k_nope = W_UK c and v = W_UV c for every cached token.
void latent_attention(Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe) {
  FloatCache& cache = cache_of(kv);
  const Matrix& kv_b = matrix(w.weight);
  const int64_t nope = w.qk_nope, rope = k_pe.cols, rank = w.rank, per_head = nope + w.v;
  for (const SequenceSlice& s : sequences) {
    for (int64_t i = 0; i < s.count; ++i) {
      float* row = cache.row(kv.layer, s.blocks, s.past + i);
      std::copy_n(c_kv.row(s.begin + i), rank, row);
      std::copy_n(k_pe.row(s.begin + i), rope, row + rank);
    }
    const int64_t total = s.past + s.count;
    for (int64_t h = 0; h < q.heads; ++h) {
      std::vector<double> expanded(static_cast<size_t>(total * per_head));
      for (int64_t j = 0; j < total; ++j) {
        const float* latent = cache.row(kv.layer, s.blocks, j);
        for (int64_t r = 0; r < per_head; ++r)
          expanded[static_cast<size_t>(j * per_head + r)] = dot(kv_b.row(h * per_head + r), latent, rank);
      }
      for (int64_t i = 0; i < s.count; ++i) {
        const int64_t row = s.begin + i, length = s.past + i + 1;
        const float* query = q.at(row, h);
        std::vector<double> p(static_cast<size_t>(length));
        for (int64_t j = 0; j < length; ++j) {
          p[static_cast<size_t>(j)] =
              static_cast<double>(scale) * (dot(query, &expanded[static_cast<size_t>(j * per_head)], nope) +
                                            dot(query + nope, cache.row(kv.layer, s.blocks, j) + rank, rope));
        }
        softmax(p);
        write_probe(probe, row, h, p);
        std::vector<double> sum(static_cast<size_t>(w.v), 0.0);
        for (int64_t j = 0; j < length; ++j)
          add_scaled(sum, p[static_cast<size_t>(j)], &expanded[static_cast<size_t>(j * per_head + nope)]);
        store(sum, out.row(row) + h * w.v);
      }
    }
  }
}

}  // namespace vl2::reference
