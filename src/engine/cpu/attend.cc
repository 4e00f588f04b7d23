#include "engine/cpu/attend.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace vl2::cpu {
namespace {

// Below every score, and finite: differences of it are no NaNs.
constexpr float kNoScore = -1e30f;
// Of bf16 products: a pair of panels shares the loads of the other operand.
constexpr int64_t kBf16Lanes = 32;
static_assert(kKeyBlock <= kBf16Keys);

int64_t k_block_bytes(const CpuContext& context, const HeadKeys& head) {
  return round_up(context.kernels.bf16.packed_a_bytes(kKeyBlock, head.size), 64);
}
int64_t v_block_bytes(const CpuContext& context, const HeadKeys& head) {
  return round_up(context.kernels.bf16.packed_a_bytes(head.v_size, kKeyBlock), 64);
}

void to_panels(const KernelTable& kernels, const float* x, const Lanes& lanes, int64_t k, std::byte* out) {
  for (int64_t v = 0; v < lanes.vectors; ++v, out += panel_bytes(Format::kBf16, k))
    kernels.panel_from_columns(x + v * kPanel, lanes.count(), kPanel, k, reinterpret_cast<BF16*>(out));
}

// What lane by lane lies beyond the visible keys. Rows [0, n) of s are keys [first, first + n).
void fill_hidden(float* s, const Lanes& lanes, int64_t first, int64_t n, float value) {
  for (int64_t j = n - 1; j >= 0; --j) {
    const int64_t hidden = lanes.hidden(first + j);
    if (hidden == 0) return;  // nor is anything hidden from earlier keys
    std::fill_n(s + j * lanes.count(), hidden, value);
  }
}

}  // namespace

HeadKeys allocate_packed(const CpuContext& context, int64_t keys, int64_t size, int64_t v_size) {
  HeadKeys head{.keys = keys, .size = size, .v_size = v_size};
  const int64_t blocks = (keys + kKeyBlock - 1) / kKeyBlock;
  head.packed_k = context.workspace.bytes(static_cast<size_t>(blocks * k_block_bytes(context, head)));
  head.packed_v = context.workspace.bytes(static_cast<size_t>(blocks * v_block_bytes(context, head)));
  return head;
}

void pack_block(const CpuContext& context, const HeadKeys& head, int64_t block, const float* k, const float* v,
                int64_t n, float* scratch) {
  const GemmKernel& kernel = context.kernels.bf16;
  kernel.pack_a(k, head.size, nullptr, n, head.size, head.packed_k + block * k_block_bytes(context, head));
  context.kernels.transpose(v, head.v_size, n, head.v_size, 1.0f, scratch, n);
  kernel.pack_a(scratch, n, nullptr, head.v_size, n, head.packed_v + block * v_block_bytes(context, head));
}

int64_t max_lanes(const CpuContext& context, bool packed) {
  const int64_t lanes = context.kernels.query_vectors * kPanel;
  return packed ? std::min(kBf16Lanes, lanes) : lanes;
}

std::vector<AttendScratch> attend_scratch(const CpuContext& context, int64_t size, int64_t v_size, bool packed) {
  const int64_t lanes = max_lanes(context, packed);
  const auto floats = [&](int64_t n) { return context.workspace.array<float>(n).data(); };
  std::vector<AttendScratch> result;
  for (int t = 0; t < context.pool.num_threads(); ++t) {
    AttendScratch s{.q = floats(size * lanes),
                    .scores = floats(kKeyBlock * lanes),
                    .factor = floats(lanes),
                    .partial = {floats(lanes), floats(lanes), floats(v_size * lanes)},
                    .q_panels = nullptr,
                    .p_panels = nullptr,
                    .sums = nullptr};
    if (packed) {
      const int64_t panels = lanes / kPanel;
      s.q_panels = context.workspace.bytes(static_cast<size_t>(panels * panel_bytes(Format::kBf16, size)));
      s.p_panels = context.workspace.bytes(static_cast<size_t>(panels * panel_bytes(Format::kBf16, kKeyBlock)));
      s.sums = floats(gemm_scratch_floats(std::max(kKeyBlock, v_size)));
    }
    result.push_back(s);
  }
  return result;
}

void attend_keys(const CpuContext& context, const HeadKeys& head, const Lanes& lanes, int64_t begin, int64_t end,
                 const Partial& partial, const AttendScratch& scratch, float* kept) {
  const KernelTable& kernels = context.kernels;
  const int64_t count = lanes.count();
  const bool packed = head.packed_k != nullptr;
  float* s = scratch.scores;
  if (packed) to_panels(kernels, lanes.q, lanes, head.size, scratch.q_panels);
  std::fill_n(partial.top, count, kNoScore);
  std::fill_n(partial.sum, count, 0.0f);
  std::fill_n(partial.mix, head.v_size * count, 0.0f);
  for (int64_t first = begin; first < end; first += kKeyBlock) {
    const int64_t block = first / kKeyBlock, n = std::min(kKeyBlock, end - first);
    const int64_t stored = std::min(kKeyBlock, head.keys - first);  // keys this block was packed with
    if (head.fetch) head.fetch(first, n);
    if (packed) {
      // A whole number of groups, as they were packed.
      const int64_t rows = std::min(round_up(n, kernels.bf16.row_group), stored);
      kernels.bf16.run({head.packed_k + block * k_block_bytes(context, head), rows, scratch.q_panels, lanes.vectors,
                        head.size, s, count, count, nullptr, Epilogue::kStore, scratch.sums});
    } else if (head.rows.runs != nullptr) {
      kernels.attend_scores_bf16(lanes.laid_out, lanes.vectors, head.rows, first, n, head.size, s);
    } else {
      kernels.attend_scores(lanes.q, lanes.vectors, head.k, first, n, head.size, s);
    }
    fill_hidden(s, lanes, first, n, -std::numeric_limits<float>::infinity());
    if (kept != nullptr) std::copy_n(s, n * count, kept + (first - begin) * count);
    kernels.attend_softmax(s, lanes.vectors, n, partial.top, partial.sum, scratch.factor);
    fill_hidden(s, lanes, first, n, 0.0f);
    if (packed) {
      std::fill(s + n * count, s + stored * count, 0.0f);
      to_panels(kernels, s, lanes, stored, scratch.p_panels);
      kernels.attend_mix(s, lanes.vectors, head.v, 0, 0, head.v_size, scratch.factor, partial.mix);  // scales only
      kernels.bf16.run({head.packed_v + block * v_block_bytes(context, head), head.v_size, scratch.p_panels,
                        lanes.vectors, stored, partial.mix, count, count, nullptr, Epilogue::kAdd, scratch.sums});
    } else if (head.rows.runs != nullptr) {
      kernels.attend_mix_bf16(s, lanes.vectors, head.rows, first, n, head.v_size, scratch.factor, partial.mix);
    } else {
      kernels.attend_mix(s, lanes.vectors, head.v, first, n, head.v_size, scratch.factor, partial.mix);
    }
  }
}

void attend(const CpuContext& context, const HeadKeys& head, const AttendTask& task, const AttendScratch& scratch) {
  const KernelTable& kernels = context.kernels;
  const Lanes lanes{scratch.q, num_panels(task.rows), task.visible, task.step, 0};
  const int64_t count = lanes.count(), keys = task.visible + (task.rows - 1) * task.step;
  kernels.transpose(task.q, task.q_stride, task.rows, head.size, task.scale * kLog2E, scratch.q, count);
  for (int64_t d = 0; d < head.size; ++d)
    std::fill(scratch.q + d * count + task.rows, scratch.q + (d + 1) * count, 0.0f);
  std::vector<float> kept(task.probe != nullptr ? static_cast<size_t>(keys * count) : 0);  // traces only
  attend_keys(context, head, lanes, 0, keys, scratch.partial, scratch, kept.empty() ? nullptr : kept.data());

  float* inverse = scratch.factor;
  for (int64_t l = 0; l < count; ++l) inverse[l] = 1.0f / scratch.partial.sum[l];
  kernels.attend_mix(scratch.scores, lanes.vectors, head.v, 0, 0, head.v_size, inverse, scratch.partial.mix);
  kernels.transpose(scratch.partial.mix, count, head.v_size, task.rows, 1.0f, task.out, task.out_stride);
  if (task.probe == nullptr) return;
  for (int64_t r = 0; r < task.rows; ++r) {
    float* probe = task.probe + r * task.probe_stride;
    std::fill_n(probe, task.probe_columns, 0.0f);
    for (int64_t j = 0; j < task.visible + r * task.step; ++j)
      probe[j] = std::exp2(kept[static_cast<size_t>(j * count + r)] - scratch.partial.top[r]) * inverse[r];
  }
}

}  // namespace vl2::cpu
