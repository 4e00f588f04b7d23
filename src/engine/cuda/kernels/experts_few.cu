// Blocks are (tile of rows of W) x (choice): choice s of all rows' names an expert, and the first that names it does
// the work for all rows that chose it; so an expert's matrices are read once. The last of the y-blocks is the shared
// one's.
#include "engine/cuda/kernels/experts_few.h"
#include "engine/cuda/kernels/few_rows.h"
#include "engine/cuda/kernels/few_rows_launch.h"

namespace vl2::cuda {
namespace {

struct FewExperts {
  const float* x;
  int64_t x_stride;
  float* out;
  int64_t out_stride;
  const int32_t* expert;
  const float* weight;
  int rows, top_k;
  const ExpertPointers* table;
  FewMatrix gate, down;                           // of any expert; data is not used
  FewMatrix shared_gate, shared_up, shared_down;  // rows == 0: none
  float *hidden, *shared_hidden;                  // [slots, hidden_stride], [rows, shared_stride]
  int64_t hidden_stride, shared_stride;
  float *part, *shared_part;  // [slots, width], [rows, width]
  int32_t* counters;          // of tiles of the output
  bool aligned, add;
};

// The choices a block works for: `first` and all later ones that name the same expert.
struct Members {
  int slot[2];  // of this lane's columns of x; -1: none
  int count;    // 0: an earlier block does it

  // The rows that this lane's columns multiply, `share` slots a row; where there is no member, those of `other`.
  __device__ __forceinline__ FewInput input(const float* x, int64_t stride, int share, int other, bool aligned) const {
    return {
        {x + (slot[0] < 0 ? other : slot[0]) / share * stride, x + (slot[1] < 0 ? other : slot[1]) / share * stride},
        aligned};
  }
};

__device__ __forceinline__ Members find_members(const FewExperts& a, int first) {
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, slots = a.rows * a.top_k;
  const int expert = __ldcg(&a.expert[first]);
  Members members{{-1, -1}, 0};
  for (int base = 0; base < slots; base += 32) {
    unsigned same =
        __ballot_sync(kAllLanes, base + lane < slots && __ldcg(&a.expert[min(base + lane, slots - 1)]) == expert);
    if (same != 0 && base + __ffs(static_cast<int>(same)) - 1 < first) return {{-1, -1}, 0};
    for (; same != 0; same &= same - 1) {
      const int slot = base + __ffs(static_cast<int>(same)) - 1;
      if (members.count == g) members.slot[0] = slot;
      if (members.count == g + 8) members.slot[1] = slot;
      ++members.count;
    }
  }
  return members;
}

// The shared block's members are the rows themselves.
__device__ __forceinline__ Members all_rows(const FewExperts& a) {
  const int g = static_cast<int>(threadIdx.x % 32) / 4;
  return {{g < a.rows ? g : -1, g + 8 < a.rows ? g + 8 : -1}, a.rows};
}

// For the threads that write: column -> slot.
template <int tiles>
__device__ __forceinline__ void publish(const Members& members, int* slot_of) {
  if (threadIdx.x >= 32 || threadIdx.x % 4 != 0) return;
  slot_of[threadIdx.x / 4] = members.slot[0];
  if (tiles > 1) slot_of[threadIdx.x / 4 + 8] = members.slot[1];
}

template <MatrixFormat format, int tiles, int pieces>
__global__ void __launch_bounds__(kMostWarps * 32, blocks_of_few(format, tiles, pieces))
    gated_experts_kernel(FewExperts a) {
  using Gated = FewGated<format, tiles, pieces>;
  VL2_DYNAMIC_SHARED(float, shared);
  __shared__ int slot_of[kFewRows];
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  const int tile = static_cast<int>(blockIdx.x), first = static_cast<int>(blockIdx.y);
  const bool is_shared = first == a.rows * a.top_k;
  FewMatrix gate = is_shared ? a.shared_gate : a.gate, up = is_shared ? a.shared_up : a.gate;
  // Which experts were chosen the router says; the shared one's weights need not wait.
  const bool idle = tile * Gated::kRows >= gate.rows;
  if (idle || !is_shared) await_earlier_kernels();
  if (idle) return;
  const Members members = is_shared ? all_rows(a) : find_members(a, first);
  if (members.count == 0) return;
  if (!is_shared) {
    const ExpertPointers pointers = a.table[a.expert[first]];
    gate.data = pointers.gate, up.data = pointers.up;
  }
  const int share = is_shared ? 1 : a.top_k;  // slots of a row
  const FewInput x = members.input(a.x, a.x_stride, share, is_shared ? 0 : first, a.aligned);
  Gated sum;
  sum.add(gate, up, tile, x, warp, warps, [&] {
    if (is_shared) await_earlier_kernels();
  });
  publish<tiles>(members, slot_of);
  sum.store(shared, warp, warps);
  __syncthreads();
  float* hidden = is_shared ? a.shared_hidden : a.hidden;
  const int64_t stride = is_shared ? a.shared_stride : a.hidden_stride;
  for (int i = static_cast<int>(threadIdx.x); i < Gated::kRows * members.count; i += static_cast<int>(blockDim.x)) {
    const int row = tile * Gated::kRows + i % Gated::kRows;
    if (row < gate.rows)
      hidden[slot_of[i / Gated::kRows] * stride + row] =
          Gated::value(shared, i % Gated::kRows, i / Gated::kRows, warps);
  }
}

// The last block of a tile adds up what all of them left.
template <int rows_of_tile>
__device__ __forceinline__ void combine(const FewExperts& a, int tile) {
  const int width = a.down.rows;
  for (int i = static_cast<int>(threadIdx.x); i < rows_of_tile * a.rows; i += static_cast<int>(blockDim.x)) {
    const int t = i / rows_of_tile, column = tile * rows_of_tile + i % rows_of_tile;
    if (column >= width) continue;
    float sum = 0;
    for (int s = t * a.top_k; s < (t + 1) * a.top_k; ++s)
      sum = fmaf(a.weight[s], __ldcg(&a.part[static_cast<int64_t>(s) * width + column]), sum);
    if (a.shared_down.rows > 0) sum += __ldcg(&a.shared_part[static_cast<int64_t>(t) * width + column]);
    float* out = a.out + t * a.out_stride + column;
    *out = a.add ? *out + sum : sum;
  }
}

template <MatrixFormat format, int tiles, int pieces>
__global__ void __launch_bounds__(kMostWarps * 32, blocks_of_few(format, tiles, pieces))
    down_experts_kernel(FewExperts a) {
  using Sum = FewSum<format, tiles, pieces>;
  VL2_DYNAMIC_SHARED(float, shared);
  __shared__ int slot_of[kFewRows];
  __shared__ bool last;
  const int warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  const int tile = static_cast<int>(blockIdx.x), first = static_cast<int>(blockIdx.y);
  const bool is_shared = first == a.rows * a.top_k;
  // The router is done: what runs is the kernel of the gates, which waited for it.
  const Members members = is_shared ? all_rows(a) : find_members(a, first);
  if (members.count == 0) {
    await_earlier_kernels();
  } else {
    FewMatrix down = is_shared ? a.shared_down : a.down;
    if (!is_shared) down.data = a.table[__ldcg(&a.expert[first])].down;
    const float* hidden = is_shared ? a.shared_hidden : a.hidden;
    const int64_t stride = is_shared ? a.shared_stride : a.hidden_stride;
    const FewInput x = members.input(hidden, stride, 1, is_shared ? 0 : first, true);
    Sum sum;
    sum.add(down, tile, x, warp, warps, [] { await_earlier_kernels(); });
    publish<tiles>(members, slot_of);
    sum.store(shared, warp);
    __syncthreads();
    float* part = is_shared ? a.shared_part : a.part;
    for (int i = static_cast<int>(threadIdx.x); i < Sum::kRows * members.count; i += static_cast<int>(blockDim.x)) {
      const int row = tile * Sum::kRows + i % Sum::kRows;
      if (row < down.rows)
        part[static_cast<int64_t>(slot_of[i / Sum::kRows]) * down.rows + row] =
            sum_of_warps(shared, Sum::kValues, i, warps);
    }
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(&a.counters[tile], 1) == static_cast<int>(gridDim.y) - 1;
    if (last) a.counters[tile] = 0;
    __threadfence();
  }
  __syncthreads();
  if (last) combine<Sum::kRows>(a, tile);
}

int64_t padded(int64_t n) { return (n + 3) / 4 * 4; }

}  // namespace

bool experts_are_few(const Experts& a) { return a.rows <= kFewRows && a.routed.format != MatrixFormat::kF32; }

size_t experts_few_scratch_bytes(const Experts& a) {
  const int64_t rows = std::min<int64_t>(a.rows, kFewRows), slots = rows * a.top_k;
  return static_cast<size_t>(slots * (padded(a.routed.inner) + padded(a.routed.width)) +
                             rows * (padded(a.shared_gate.rows) + padded(a.routed.width))) *
         sizeof(float);
}

void experts_few(Stream stream, const Experts& e) {
  const int64_t slots = e.rows * e.top_k;
  const MatrixView gate{e.routed.format, nullptr, e.routed.inner, e.routed.width, e.routed.in_stride};
  const MatrixView down{e.routed.format, nullptr, e.routed.width, e.routed.inner, e.routed.down_stride};
  FewExperts a{};
  a.x = e.x, a.x_stride = e.x_stride, a.out = e.out, a.out_stride = e.out_stride;
  a.expert = e.expert, a.weight = e.weight;
  a.rows = static_cast<int>(e.rows), a.top_k = static_cast<int>(e.top_k);
  a.table = e.routed.table;
  a.gate = few_matrix(gate), a.down = few_matrix(down);
  const bool has_shared = e.shared_gate.data != nullptr;
  if (has_shared) {
    a.shared_gate = few_matrix(e.shared_gate), a.shared_up = few_matrix(e.shared_up);
    a.shared_down = few_matrix(e.shared_down);
  }
  a.hidden_stride = padded(e.routed.inner), a.shared_stride = padded(e.shared_gate.rows);
  a.hidden = static_cast<float*>(e.scratch);
  a.shared_hidden = a.hidden + slots * a.hidden_stride;
  a.part = a.shared_hidden + e.rows * a.shared_stride;
  a.shared_part = a.part + slots * e.routed.width;
  a.counters = e.counters;
  a.aligned = rows_aligned(e.x, e.x_stride);
  a.add = e.add;

  const auto choices = static_cast<unsigned>(slots + (has_shared ? 1 : 0));
  const int gate_tiles = std::max(few_gated_tiles(gate), has_shared ? few_gated_tiles(e.shared_gate) : 0);
  const int down_tiles = few_tiles(down);
  const int64_t active = std::min(slots, e.routed.experts);  // at most
  const int shared_tiles = has_shared ? few_gated_tiles(e.shared_gate) : 0;
  const int gate_warps = few_warps(few_gated_tiles(gate) * active + shared_tiles, gate.cols);
  const int down_warps = few_warps(down_tiles * (active + (has_shared ? 1 : 0)), down.cols);
  for_few_rows(gate.format, e.rows > 8, e.exact, [&]<MatrixFormat format, int tiles, int pieces>() {
    using Gated = FewGated<format, tiles, pieces>;
    const size_t values = Gated::Sum::kValues * sizeof(float);
    VL2_LAUNCH_EARLY((gated_experts_kernel<format, tiles, pieces>), dim3(static_cast<unsigned>(gate_tiles), choices),
                     static_cast<unsigned>(gate_warps * 32), static_cast<size_t>(Gated::kSums * gate_warps) * values,
                     stream, a);
    VL2_LAUNCH_EARLY((down_experts_kernel<format, tiles, pieces>), dim3(static_cast<unsigned>(down_tiles), choices),
                     static_cast<unsigned>(down_warps * 32), static_cast<size_t>(down_warps) * values, stream, a);
  });
}

}  // namespace vl2::cuda
