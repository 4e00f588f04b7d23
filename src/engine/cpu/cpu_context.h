// What the parts of the CPU backend share: kernels, threads, and how products are computed.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/cpu/cpu_ops.h"
#include "engine/cpu/packed_weights.h"

namespace vl2::cpu {

struct CpuContext {
  const KernelTable& kernels;
  ThreadPool& pool;
  Workspace& workspace;
  bool bf16_compute;
  bool bf16_attention;  // of pictures and over latents

  // The kernel that multiplies panels of a format.
  const GemmKernel& gemm(Format format) const {
    switch (format) {
      case Format::kF32:
        return kernels.f32;
      case Format::kQ8:
        return kernels.q8;
      case Format::kQ4:
        return kernels.q4;
      case Format::kBf16:
        break;
    }
    return bf16_compute ? kernels.bf16 : kernels.bf16_f32;
  }
  // How activations become panels inside attention.
  Format activation_format() const { return bf16_compute ? Format::kBf16 : Format::kF32; }

  // Splits [0, count) into pieces that keep every thread busy: fn(begin, end, thread).
  template <typename Fn>
  void for_ranges(int64_t count, int64_t smallest, const Fn& fn) const {
    const int64_t pieces = std::clamp<int64_t>(count / std::max<int64_t>(smallest, 1), 1, pool.num_threads());
    pool.parallel_for(
        pieces, [&](int64_t piece, int thread) { fn(count * piece / pieces, count * (piece + 1) / pieces, thread); });
  }
};

// A piece of per-thread scratch for each thread of the pool.
inline std::vector<float*> thread_scratch(const CpuContext& context, int64_t floats) {
  std::vector<float*> result;
  for (int t = 0; t < context.pool.num_threads(); ++t) result.push_back(context.workspace.array<float>(floats).data());
  return result;
}

// Sums on one thread; a scratch piece of gemm_scratch_floats(rows) belongs to the caller. next: as in GemmTask.
inline void multiply(const GemmKernel& kernel, const void* packed_a, int64_t rows, const void* panels, int64_t n,
                     int64_t k, float* c, int64_t c_stride, float* scratch, const void* next = nullptr) {
  kernel.run({packed_a, rows, panels, num_panels(n), k, c, c_stride, n, nullptr, Epilogue::kStore, scratch, next});
}

// --- cpu_linear.cc ---

// Rows packed for one kernel, ready for several products.
struct PackedRows {
  const std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t k = 0;
};
PackedRows pack_activations(const CpuContext& context, const GemmKernel& kernel, Tensor x, const int32_t* index,
                            int64_t rows);
// A product with rows that several share: out = epilogue(W x + b).
struct Product {
  Tensor out;
  const PackedMatrix* w;
  const float* bias;
  Epilogue epilogue;
};
// Spreads blocks of rows and panels of all products over the pool, in one region where they are stored alike.
void multiply_rows(const CpuContext& context, Tensor x, std::span<const Product> products);
void linear(const CpuContext& context, Tensor out, Tensor x, const PackedMatrix& w, const float* bias,
            Epilogue epilogue);
void swiglu(const CpuContext& context, Tensor out, Tensor x, const GatedMlp& mlp);

// Panels of a task where rows are few: long enough to read in one run, short enough to be taken over from a late
// thread.
int64_t stream_share(const PackedMatrix& w, int64_t threads);

// --- cpu_experts.cc ---
// Up to so many rows the weights, not the products, are what takes time: shared experts join the routed ones' region.
inline constexpr int64_t kFewRows = 12;
// shared (optional, for kFewRows at most): added for every token.
void routed_experts(const CpuContext& context, Tensor out, Tensor x, const Routing& routing,
                    const ExpertWeights& experts, const GatedMlp* shared);

// --- cpu_attention.cc ---
void full_attention(const CpuContext& context, Tensor out, Tensor qkv, int64_t heads, int64_t tokens_per_item);
void cached_attention(const CpuContext& context, Tensor out, Tensor q, Tensor k, Tensor v, KvLayer kv,
                      std::span<const SequenceSlice> sequences, float scale, Tensor probe);
// --- cpu_latent_attention.cc ---
void latent_attention(const CpuContext& context, Tensor out, Tensor q, Tensor c_kv, Tensor k_pe, const LatentWeights& w,
                      KvLayer kv, std::span<const SequenceSlice> sequences, float scale, Tensor probe);

inline const PackedMatrix& packed(const Weight& w) { return static_cast<const PackedMatrix&>(*w.storage); }
inline const float* vector(const Weight& w) {
  return w ? static_cast<const FloatVector&>(*w.storage).values.data() : nullptr;
}

}  // namespace vl2::cpu
