// One warp chooses for one token, in double: the same choice as the host's wherever the logits agree.
#include <cmath>

#include "engine/cuda/device/reduce.h"
#include "engine/cuda/kernels/few_rows.h"
#include "engine/cuda/kernels/route.h"
// After the kernel language.
#include "core/base/error.h"

namespace vl2::cuda {
namespace {

constexpr double kNone = -INFINITY;
constexpr int kChooseWarps = 4, kLogitWarps = 4;

struct Best {
  double value;
  int index;
};

__device__ __forceinline__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

// The largest of values[0 .. count), the first of equals; what is no number counts as least.
__device__ __forceinline__ Best warp_best(const double* values, int count) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  Best best{kNone, 0x7fffffff};
  for (int e = lane; e < count; e += 32) best = better(best, {values[e], e});
  VL2_UNROLL
  for (int bits = 16; bits > 0; bits /= 2)
    best = better(best, {__shfl_xor_sync(kAllLanes, best.value, bits), __shfl_xor_sync(kAllLanes, best.index, bits)});
  return best;
}

__device__ __forceinline__ double warp_sum_double(double x) {
  VL2_UNROLL
  for (int bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  return x;
}

// A choice that was taken; below every other.
constexpr double kTaken = -INFINITY;

// Choices outside the best groups become 0 (not minus infinity: a negative biased score is worse than that).
__device__ void keep_groups(double* choice, const Route& a) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int groups = static_cast<int>(a.num_groups), size = static_cast<int>(a.experts / a.num_groups);
  double score = kNone;
  if (lane < groups) {
    double first = kNone, second = kNone;
    for (int i = 0; i < size; ++i) {
      const double v = choice[lane * size + i];
      if (v > first)
        second = first, first = v;
      else if (v > second)
        second = v;
    }
    score = a.two_best && size > 1 ? first + second : first;
  }
  unsigned kept = 0;
  for (int i = 0; i < a.topk_groups; ++i) {
    Best best{lane < groups && (kept >> lane & 1) == 0 ? score : kNone, lane};
    if (lane >= groups || (kept >> lane & 1) != 0) best.index += 64;  // behind all that may be taken
    VL2_UNROLL
    for (int bits = 16; bits > 0; bits /= 2)
      best = better(best, {__shfl_xor_sync(kAllLanes, best.value, bits), __shfl_xor_sync(kAllLanes, best.index, bits)});
    kept |= 1u << (best.index & 31);
  }
  __syncwarp();  // all scores were read
  for (int e = lane; e < a.experts; e += 32)
    if ((kept >> e / size & 1) == 0) choice[e] = 0;
  __syncwarp();
}

// choice: shared memory, [2 * experts] doubles of this warp alone.
__device__ void choose(const Route& a, const float* logits, int64_t row, double* choice) {
  const int lane = static_cast<int>(threadIdx.x % 32), experts = static_cast<int>(a.experts);
  double* scores = choice + experts;
  double largest = kNone, sum = 0;
  for (int e = lane; e < experts; e += 32) largest = fmax(largest, static_cast<double>(logits[e]));
  VL2_UNROLL
  for (int bits = 16; bits > 0; bits /= 2) largest = fmax(largest, __shfl_xor_sync(kAllLanes, largest, bits));
  for (int e = lane; e < experts; e += 32) {
    const auto x = static_cast<double>(logits[e]);
    scores[e] = a.sigmoid ? 1.0 / (1.0 + exp(-x)) : exp(x - largest);
    sum += scores[e];
  }
  sum = warp_sum_double(sum);
  for (int e = lane; e < experts; e += 32) {
    if (!a.sigmoid) scores[e] /= sum;
    choice[e] = a.bias != nullptr ? scores[e] + static_cast<double>(a.bias[e]) : scores[e];
    a.scores[row * experts + e] = static_cast<float>(scores[e]);
    a.choice[row * experts + e] = static_cast<float>(choice[e]);
    if (!(choice[e] == choice[e])) choice[e] = -1e300;  // no number: last of all, but still an expert
  }
  __syncwarp();
  if (a.limit_groups) keep_groups(choice, a);

  int mine = 0x7fffffff;  // lane i holds the i-th taken
  const int top_k = static_cast<int>(a.top_k);
  for (int i = 0; i < top_k; ++i) {
    const Best best = warp_best(choice, experts);
    if (lane == i) mine = best.index;
    __syncwarp();
    if (lane == 0) choice[best.index] = kTaken;
    __syncwarp();
  }
  int place = 0;
  double total = 0;
  const double score = lane < top_k ? scores[mine] : 0;
  for (int i = 0; i < top_k; ++i) {
    place += __shfl_sync(kAllLanes, mine, i) < mine;
    total += __shfl_sync(kAllLanes, score, i);
  }
  if (lane >= top_k) return;
  const double divisor = top_k > 1 && a.normalise ? total + 1e-20 : 1.0;
  a.expert[row * top_k + place] = mine;
  a.weight[row * top_k + place] = static_cast<float>(score / divisor * static_cast<double>(a.scaling));
}

__global__ void __launch_bounds__(kChooseWarps * 32) choose_kernel(Route args) {
  VL2_DYNAMIC_SHARED(double, shared);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kChooseWarps + threadIdx.x / 32;
  if (row >= args.rows) return;
  choose(args, args.logits + row * args.logits_stride, row, shared + threadIdx.x / 32 * 2 * args.experts);
}

// A warp for each expert; the block that is last to finish a row chooses.
__global__ void __launch_bounds__(kLogitWarps * 32)
    route_kernel(Route args, const float* x, int64_t x_stride, FewMatrix gate, float* logits, int32_t* counters,
                 bool aligned) {
  VL2_DYNAMIC_SHARED(double, shared);
  __shared__ bool last;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int expert = static_cast<int>(blockIdx.x * kLogitWarps + threadIdx.x / 32);
  const int64_t row = blockIdx.y;
  const float* weights = static_cast<const float*>(gate.data) + expert * gate.stride;
  if (expert < gate.rows)
    for (int k = lane * 32; k < gate.cols; k += 32 * 32) prefetch(weights + k);
  await_earlier_kernels();
  if (expert < gate.rows) {
    float sum[4] = {};
    for (int k = lane * 4; k < gate.cols; k += 512) {
      VL2_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int at = k + i * 128;
        if (at >= gate.cols) continue;
        const float4 w = __ldg(reinterpret_cast<const float4*>(weights + at));
        float v[8];
        load4(v, 0, x + row * x_stride, at, gate.cols, aligned);
        sum[i] = fmaf(w.x, v[0], fmaf(w.y, v[1], fmaf(w.z, v[2], fmaf(w.w, v[3], sum[i]))));
      }
    }
    const float logit = warp_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    if (lane == 0) {
      logits[row * args.experts + expert] = logit;
      __threadfence();
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(&counters[row], 1) == static_cast<int>(gridDim.x) - 1;
    if (last) counters[row] = 0;
    __threadfence();
  }
  __syncthreads();
  if (last && threadIdx.x < 32) choose(args, logits + row * args.experts, row, shared);
}

void check(const Route& a) {
  VL2_CHECK(a.experts >= 1 && a.experts <= 4096 && a.top_k >= 1 && a.top_k <= 32 && a.top_k <= a.experts &&
                a.num_groups >= 1 && a.num_groups <= 32 && a.experts % a.num_groups == 0 && a.topk_groups >= 1 &&
                a.topk_groups <= a.num_groups,
            "[cuda] a router of {} experts in {} groups, {} and {} of them chosen, is beyond its kernel", a.experts,
            a.num_groups, a.top_k, a.topk_groups);
}

}  // namespace

void choose_experts(Stream stream, const Route& a) {
  check(a);
  if (a.rows == 0) return;
  const auto blocks = static_cast<unsigned>((a.rows + kChooseWarps - 1) / kChooseWarps);
  VL2_LAUNCH(choose_kernel, blocks, kChooseWarps * 32,
             static_cast<size_t>(kChooseWarps * 2 * a.experts) * sizeof(double), stream, a);
}

void route(Stream stream, const RouteFew& a) {
  check(a.route);
  VL2_CHECK(a.gate.format == MatrixFormat::kF32 && a.gate.rows == a.route.experts);
  if (a.route.rows == 0) return;
  const FewMatrix gate{a.gate.data, static_cast<int>(a.gate.rows), static_cast<int>(a.gate.cols), a.gate.stride, 0};
  const bool aligned = reinterpret_cast<uintptr_t>(a.x) % 16 == 0 && a.x_stride % 4 == 0;
  const dim3 grid(static_cast<unsigned>((a.gate.rows + kLogitWarps - 1) / kLogitWarps),
                  static_cast<unsigned>(a.route.rows));
  VL2_LAUNCH_EARLY(route_kernel, grid, kLogitWarps * 32, static_cast<size_t>(2 * a.route.experts) * sizeof(double),
                   stream, a.route, a.x, a.x_stride, gate, a.logits, a.counters, aligned);
}

}  // namespace vl2::cuda
