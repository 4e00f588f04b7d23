#include <algorithm>

#include "engine/cuda/device/reduce.h"
#include "engine/cuda/kernels/experts_many.h"
#include "engine/cuda/kernels/grouped.h"

namespace vl2::cuda {
namespace {

constexpr int kSortThreads = 256, kSortWarps = kSortThreads / 32;

// A block for each expert reads all choices twice: how many come before its own, then where its own are. No counters
// that threads race for, so the order is always the same.
__global__ void __launch_bounds__(kSortThreads) sort_kernel(SortChoices a) {
  await_earlier_kernels();
  __shared__ int found[kSortWarps][2];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int expert = static_cast<int>(blockIdx.x), choices = static_cast<int>(a.choices);
  // Each warp has a stretch of choices.
  const int share = (choices + kSortWarps * 32 - 1) / (kSortWarps * 32) * 32;
  const int begin = warp * share, end = min(begin + share, choices);
  int less = 0, equal = 0;
  for (int i = begin + lane; i < end; i += 32) {
    less += a.expert[i] < expert;
    equal += a.expert[i] == expert;
  }
  VL2_UNROLL
  for (int bits = 16; bits > 0; bits /= 2) {
    less += __shfl_xor_sync(kAllLanes, less, bits);
    equal += __shfl_xor_sync(kAllLanes, equal, bits);
  }
  if (lane == 0) found[warp][0] = less, found[warp][1] = equal;
  __syncthreads();
  int at = 0, all = 0;
  for (int w = 0; w < kSortWarps; ++w) {
    at += found[w][0];
    if (w < warp) at += found[w][1];
    all += found[w][0] + found[w][1];
  }
  if (thread == 0) {
    a.first[expert] = at;  // the first warp's: nothing of its own before it
    if (expert + 1 == a.experts) a.first[a.experts] = all;
  }
  for (int base = begin; base < end; base += 32) {
    const int i = base + lane;
    const bool mine = i < end && a.expert[min(i, choices - 1)] == expert;
    const unsigned same = __ballot_sync(kAllLanes, mine);
    if (mine) {
      const int position = at + __popc(same & ((1u << lane) - 1));
      a.order[position] = i;
      a.place[i] = position;
    }
    at += __popc(same);
  }
}

struct Combine {
  float* out;
  int64_t out_stride;
  const float *part, *shared;  // [positions, width], [rows, width] or nullptr
  const float* weight;
  const int32_t* place;
  int rows, top_k, width;
  bool add;
};

__device__ __forceinline__ void add_scaled(float& sum, float scale, float x) { sum = fmaf(scale, x, sum); }
__device__ __forceinline__ void add_scaled(float4& sum, float scale, float4 x) {
  sum.x = fmaf(scale, x.x, sum.x), sum.y = fmaf(scale, x.y, sum.y);
  sum.z = fmaf(scale, x.z, sum.z), sum.w = fmaf(scale, x.w, sum.w);
}

// T: float, or float4 where rows are whole multiples of it.
template <typename T>
__global__ void __launch_bounds__(256) combine_kernel(Combine a) {
  await_earlier_kernels();
  constexpr int kValues = sizeof(T) / sizeof(float);
  const int column = static_cast<int>(blockIdx.x * 256 + threadIdx.x) * kValues, row = static_cast<int>(blockIdx.y);
  if (column >= a.width) return;
  T sum{};
  for (int s = row * a.top_k; s < (row + 1) * a.top_k; ++s)
    add_scaled(sum, a.weight[s],
               *reinterpret_cast<const T*>(a.part + static_cast<int64_t>(a.place[s]) * a.width + column));
  if (a.shared != nullptr)
    add_scaled(sum, 1.0f, *reinterpret_cast<const T*>(a.shared + static_cast<int64_t>(row) * a.width + column));
  T* out = reinterpret_cast<T*>(a.out + row * a.out_stride + column);
  if (a.add) add_scaled(sum, 1.0f, *out);
  *out = sum;
}

// Pieces of scratch, each at a multiple of 256 bytes.
struct Pieces {
  std::byte* base;
  size_t used = 0;
  template <typename T>
  T* take(int64_t count) {
    T* p = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return p;
  }
};

struct Scratch {
  int32_t *first, *order, *place;
  Bf16Bits* x = nullptr;         // packed
  void *hidden, *shared_hidden;  // packed or float
  float *part, *shared_part;
  size_t bytes;
};

bool exact(const Experts& a) { return a.exact || a.routed.format == MatrixFormat::kF32; }
int64_t hidden_cols(const Experts& a, int64_t inner) { return exact(a) ? inner : packed_cols(inner); }

Scratch cut_scratch(const Experts& a, std::byte* base) {
  const int64_t choices = a.rows * a.top_k, shared_inner = a.shared_gate.rows;
  const int64_t bytes = exact(a) ? 4 : 2;
  Pieces pieces{base};
  Scratch s{};
  s.first = pieces.take<int32_t>(a.routed.experts + 1);
  s.order = pieces.take<int32_t>(choices);
  s.place = pieces.take<int32_t>(choices);
  if (!exact(a)) s.x = pieces.take<Bf16Bits>(a.rows * packed_cols(a.routed.width));
  s.hidden = pieces.take<std::byte>(choices * hidden_cols(a, a.routed.inner) * bytes);
  s.shared_hidden = pieces.take<std::byte>(a.rows * hidden_cols(a, shared_inner) * bytes);
  s.part = pieces.take<float>(choices * a.routed.width);
  s.shared_part = pieces.take<float>(a.rows * a.routed.width);
  s.bytes = pieces.used;
  return s;
}

}  // namespace

void sort_choices(Stream stream, const SortChoices& a) {
  VL2_LAUNCH_EARLY(sort_kernel, static_cast<unsigned>(a.experts), kSortThreads, 0, stream, a);
}

size_t experts_many_scratch_bytes(const Experts& a) { return cut_scratch(a, nullptr).bytes; }

void experts_many(Stream stream, const Experts& a) {
  const Scratch s = cut_scratch(a, static_cast<std::byte*>(a.scratch));
  const ExpertMatrices& m = a.routed;
  sort_choices(stream, {a.expert, a.rows * a.top_k, m.experts, s.first, s.order, s.place});
  if (!exact(a)) pack_rows(stream, s.x, a.x, a.x_stride, a.rows, m.width, m.format);
  const auto multiply = [&](const Grouped& g) { exact(a) ? grouped_exact(stream, g) : grouped_bf16(stream, g); };

  Grouped gated;
  gated.x = exact(a) ? static_cast<const void*>(a.x) : s.x;
  gated.x_stride = exact(a) ? a.x_stride : packed_cols(m.width);
  Grouped down;
  if (a.shared_gate.data != nullptr) {
    gated.positions = a.rows;
    gated.w = a.shared_gate, gated.v = a.shared_up;
    gated.out = s.shared_hidden, gated.out_stride = hidden_cols(a, a.shared_gate.rows);
    multiply(gated);
    down.x = s.shared_hidden, down.x_stride = gated.out_stride;
    down.positions = a.rows;
    down.w = a.shared_down;
    down.out = s.shared_part, down.out_stride = m.width;
    multiply(down);
  }
  gated.order = s.order, gated.top_k = a.top_k;
  gated.first = down.first = s.first;
  gated.groups = down.groups = m.experts;
  gated.positions = down.positions = a.rows * a.top_k;
  gated.table = down.table = m.table;
  gated.w = gated.v = {m.format, nullptr, m.inner, m.width, m.in_stride};
  gated.out = s.hidden, gated.out_stride = hidden_cols(a, m.inner);
  multiply(gated);
  down.x = s.hidden, down.x_stride = gated.out_stride;
  down.down = true;
  down.w = {m.format, nullptr, m.width, m.inner, m.down_stride};
  down.out = s.part, down.out_stride = m.width;
  multiply(down);

  const Combine combine{a.out,
                        a.out_stride,
                        s.part,
                        a.shared_gate.data != nullptr ? s.shared_part : nullptr,
                        a.weight,
                        s.place,
                        static_cast<int>(a.rows),
                        static_cast<int>(a.top_k),
                        static_cast<int>(m.width),
                        a.add};
  // Rows in the second dimension of the grid, which has 65,535 at most: more go in several launches.
  constexpr int64_t kMost = 32768;
  for (int64_t begin = 0; begin < a.rows; begin += kMost) {
    Combine some = combine;
    some.out += begin * a.out_stride;
    some.weight += begin * a.top_k, some.place += begin * a.top_k;
    if (some.shared != nullptr) some.shared += begin * m.width;
    const bool vectors = m.width % 4 == 0 && a.out_stride % 4 == 0 && reinterpret_cast<uintptr_t>(a.out) % 16 == 0;
    const int64_t columns = vectors ? m.width / 4 : m.width;
    const dim3 grid(static_cast<unsigned>((columns + 255) / 256),
                    static_cast<unsigned>(std::min(kMost, a.rows - begin)));
    if (vectors)
      VL2_LAUNCH_EARLY(combine_kernel<float4>, grid, 256, 0, stream, some);
    else
      VL2_LAUNCH_EARLY(combine_kernel<float>, grid, 256, 0, stream, some);
  }
}

}  // namespace vl2::cuda
