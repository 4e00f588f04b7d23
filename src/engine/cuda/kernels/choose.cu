#include "engine/cuda/device/kernel_language.h"
#include "engine/cuda/device/reduce.h"
#include "engine/cuda/kernels/choose.h"

namespace vl2::cuda {
namespace {

constexpr int kMostThreads = 1024;  // a power of two; a vocabulary is long, and rows are few
constexpr int kBins = 2048;
constexpr int kNowhere = 0x7fffffff;

// Counts of ids, or their weights as whole numbers.
using Measure = unsigned long long;

struct Scratch {
  Measure sums[kBins];
  unsigned counts[kBins];
  Measure items[kMostThreads];
  Measure warps[32];
  float values[32];
  int places[32];
  Measure above;
  unsigned bin, filled;
  int found;
};

// In the order of their values; 0 and -0 are equal.
__device__ __forceinline__ unsigned key_of(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ bool finite(double x) { return x - x == 0; }

// A key with its id: the larger, the earlier. The lower id comes first among equals.
__device__ __forceinline__ Measure item_of(unsigned key, int id) {
  return static_cast<Measure>(key) << 32 | (0xffffffffu - static_cast<unsigned>(id));
}
__device__ __forceinline__ int id_of(Measure item) {
  return static_cast<int>(0xffffffffu - static_cast<unsigned>(item & 0xffffffffu));
}

// Larger first; among equals the first. NaN is larger than nothing.
__device__ __forceinline__ bool before(float a, int at_a, float b, int at_b) {
  return a > b || (a == b && at_a < at_b);
}

// fn(id, logit) for this thread's.
template <typename Fn>
__device__ __forceinline__ void each_logit(const float* row, int count, const Fn& fn) {
  for (int c = static_cast<int>(threadIdx.x); c < count; c += static_cast<int>(blockDim.x)) fn(c, row[c]);
}

__device__ __forceinline__ Measure warp_total(Measure x) {
  for (int bits = 16; bits > 0; bits /= 2) x += __shfl_xor_sync(kAllLanes, x, bits);
  return x;
}

// Of this and the lanes before it.
__device__ __forceinline__ Measure warp_running_total(Measure x) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int by = 1; by < 32; by *= 2) {
    const Measure other = __shfl_up_sync(kAllLanes, x, static_cast<unsigned>(by));
    if (lane >= by) x += other;
  }
  return x;
}

// Every thread gets the result.
__device__ __forceinline__ Measure block_total(Measure x, Scratch& s) {
  x = warp_total(x);
  if (threadIdx.x % 32 == 0) s.warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) x += s.warps[w];
  __syncthreads();
  return x;
}

// Of this and the threads before it.
__device__ __forceinline__ Measure block_running_total(Measure x, Scratch& s) {
  x = warp_running_total(x);
  if (threadIdx.x % 32 == 31) s.warps[threadIdx.x / 32] = x;
  __syncthreads();
  for (unsigned w = 0; w < threadIdx.x / 32; ++w) x += s.warps[w];
  __syncthreads();
  return x;
}

// The first of the largest, kNowhere where there is none above -inf; every thread gets it.
__device__ __forceinline__ int first_of_largest(const float* row, int count, Scratch& s) {
  float best = -INFINITY;
  int place = kNowhere;
  each_logit(row, count, [&](int c, float value) {
    if (value > best) best = value, place = c;
  });
  for (int bits = 16; bits > 0; bits /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, best, bits);
    const int at = __shfl_xor_sync(kAllLanes, place, bits);
    if (before(other, at, best, place)) best = other, place = at;
  }
  if (threadIdx.x % 32 == 0) s.values[threadIdx.x / 32] = best, s.places[threadIdx.x / 32] = place;
  __syncthreads();
  for (unsigned w = 0; w < blockDim.x / 32; ++w)
    if (before(s.values[w], s.places[w], best, place)) best = s.values[w], place = s.places[w];
  __syncthreads();
  return place;
}

// The first id at which the sum of measure(id, logit), in the order of ids, reaches target_of(the sum of all), which is
// at least 1; -1: never.
template <typename MeasureOf, typename TargetOf>
__device__ int walk(const float* row, int count, const MeasureOf& measure, const TargetOf& target_of, Scratch& s) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32), span = ((count + warps - 1) / warps + 31) / 32 * 32;
  const int begin = min(warp * span, count), end = min(begin + span, count);
  Measure sum = 0;
  for (int c = begin + lane; c < end; c += 32) sum += measure(c, row[c]);
  sum = warp_total(sum);
  if (lane == 0) s.warps[warp] = sum;
  if (threadIdx.x == 0) s.found = -1;
  __syncthreads();
  Measure total = 0, reached = 0;
  for (int w = 0; w < warps; ++w) {
    if (w < warp) reached += s.warps[w];
    total += s.warps[w];
  }
  const Measure target = target_of(total);
  if (reached < target && target <= reached + sum) {
    for (int first = begin; first < end; first += 32) {
      const int c = first + lane;
      const Measure running = reached + warp_running_total(c < end ? measure(c, row[c]) : 0);
      const unsigned there = __ballot_sync(kAllLanes, running >= target);
      if (there != 0) {
        // The first of these lanes: none before it is.
        if (running >= target && (there & ((1u << lane) - 1)) == 0) s.found = c;
        break;
      }
      reached = __shfl_sync(kAllLanes, running, 31);
    }
  }
  __syncthreads();
  const int found = s.found;
  __syncthreads();
  return found;
}

// The item at which the sum of measure(id, logit), in the order of items, reaches `target`, which is at least 1 and at
// most the sum of all. What has no measure is not there. Equal logits have equal measures.
template <typename MeasureOf>
__device__ Measure item_at(const float* row, int count, const MeasureOf& measure, Measure target, Scratch& s) {
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  unsigned first = 0, last = 0xffffffffu;  // keys among which it is
  Measure above = 0;                       // measure of those beyond `last`
  // Each turn looks at an eleventh of the bits, and ends early where few are left.
  for (int shift = 21;; shift = max(shift - 11, 0)) {
    for (int b = thread; b < kBins; b += threads) s.sums[b] = 0, s.counts[b] = 0;
    if (thread == 0) s.bin = 0, s.filled = 0, s.above = above;
    __syncthreads();
    each_logit(row, count, [&](int c, float logit) {
      const unsigned key = key_of(logit);
      if (key < first || key > last) return;
      const Measure m = measure(c, logit);
      if (m == 0) return;
      atomicAdd(&s.counts[(key - first) >> shift], 1u);
      atomicAdd(&s.sums[(key - first) >> shift], m);
    });
    __syncthreads();
    // From the last bin down, a run of bins a thread.
    const int run = kBins / threads, bin_of_run = kBins - 1 - thread * run;
    Measure mine = 0;
    for (int i = 0; i < run; ++i) mine += s.sums[bin_of_run - i];
    Measure reached = above + block_running_total(mine, s) - mine;
    if (reached < target && target <= reached + mine) {
      int b = bin_of_run;
      for (; reached + s.sums[b] < target; --b) reached += s.sums[b];
      s.bin = static_cast<unsigned>(b);
      s.above = reached;
    }
    __syncthreads();
    above = s.above;
    first += s.bin << shift;
    last = first + ((1u << shift) - 1);
    const unsigned left = s.counts[s.bin];
    if (left <= blockDim.x) break;
    if (shift == 0)  // more equal ones than threads
      return item_of(first,
                     walk(
                         row, count, [&](int c, float logit) { return key_of(logit) == first ? measure(c, logit) : 0; },
                         [&](Measure) { return target - above; }, s));
    __syncthreads();
  }
  // Few: sorted, the earliest first.
  s.items[thread] = 0;
  __syncthreads();
  each_logit(row, count, [&](int c, float logit) {
    const unsigned key = key_of(logit);
    if (key >= first && key <= last && measure(c, logit) != 0) s.items[atomicAdd(&s.filled, 1u)] = item_of(key, c);
  });
  for (int size = 2; size <= threads; size *= 2)
    for (int apart = size / 2; apart > 0; apart /= 2) {
      __syncthreads();
      const int other = thread ^ apart;
      if (other > thread) {
        const Measure a = s.items[thread], b = s.items[other];
        if ((a < b) == ((thread & size) == 0)) s.items[thread] = b, s.items[other] = a;
      }
    }
  __syncthreads();
  const Measure item = s.items[thread];
  const Measure mine = item != 0 ? measure(id_of(item), row[id_of(item)]) : 0;
  const Measure running = above + block_running_total(mine, s);
  if (mine != 0 && running >= target && running - mine < target) s.above = item;
  __syncthreads();
  const Measure found = s.above;
  __syncthreads();
  return found;
}

// Two passes: the row is in the second-level cache for the other.
__global__ void choose_largest_kernel(ChoiceOfRow* out, RowsView x, int64_t num_ids) {
  await_earlier_kernels();
  __shared__ Scratch s;
  __shared__ float tops[32];
  __shared__ double sums[32];
  const float* row = x.data + blockIdx.x * x.row_stride;
  const int count = static_cast<int>(x.cols), warp = static_cast<int>(threadIdx.x / 32);
  const int warps = static_cast<int>(blockDim.x / 32), place = first_of_largest(row, static_cast<int>(num_ids), s);
  float top = place != kNowhere ? row[place] : -INFINITY;
  each_logit(row + num_ids, count - static_cast<int>(num_ids), [&](int, float value) { top = fmaxf(top, value); });
  top = warp_max(top);
  if (threadIdx.x % 32 == 0) tops[warp] = top;
  __syncthreads();
  for (int w = 0; w < warps; ++w) top = fmaxf(top, tops[w]);
  float sum = 0;
  each_logit(row, count, [&](int, float value) { sum += expf(value - top); });
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double all = 0;
  for (int w = 0; w < warps; ++w) all += sums[w];
  ChoiceOfRow& choice = out[blockIdx.x];
  choice.log_sum_exp = top + log(all);
  choice.id = place != kNowhere && finite(choice.log_sum_exp) ? place : -1;
  choice.logit = choice.id >= 0 ? row[place] : 0.0f;
}

__global__ void edit_kernel(RowsView x, const EditOfLogit* edits, float* kept, int64_t count, bool undo) {
  await_earlier_kernels();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const EditOfLogit edit = edits[i];
  float& logit = x.data[edit.row * x.row_stride + edit.id];
  if (undo) {
    logit = kept[i];
    return;
  }
  kept[i] = logit;
  const float score = logit + edit.bias;
  logit = (score < 0 ? score * edit.penalty : score / edit.penalty) - edit.less;
}

__global__ void __launch_bounds__(kMostThreads)
    choose_by_rule_kernel(ChoiceOfRow* out, RowsView x, int64_t num_ids, const RuleOfRow* rules) {
  await_earlier_kernels();
  __shared__ Scratch s;
  const RuleOfRow rule = rules[blockIdx.x];
  ChoiceOfRow& choice = out[blockIdx.x];
  if (rule.plain != 0 || !finite(choice.log_sum_exp)) return;
  const float* row = x.data + blockIdx.x * x.row_stride;
  const int count = static_cast<int>(num_ids), place = first_of_largest(row, count, s);
  if (place == kNowhere || rule.inverse_temperature == 0) {
    if (threadIdx.x == 0) choice.id = place == kNowhere ? -1 : place;
    return;
  }
  const float top = row[place];
  int bits = 62;  // of the sum of `count` weights
  for (int n = 1; n < count; n *= 2) --bits;
  const float one = ldexpf(1.0f, bits);
  const auto score = [&](float logit) { return (logit - top) * rule.inverse_temperature; };
  const auto weight = [&](float logit) { return static_cast<Measure>(expf(score(logit)) * one); };

  Measure least = 0;  // items from here on are left
  if (rule.top_k > 0 && rule.top_k < count) {
    // What equals the last of the k is kept as well.
    const auto each = [](int, float) { return Measure{1}; };
    least = item_at(row, count, each, static_cast<Measure>(rule.top_k), s) & ~Measure{0xffffffffu};
  }
  const auto weight_of_left = [&](int c, float logit) {
    return item_of(key_of(logit), c) >= least ? weight(logit) : 0;
  };
  if (rule.top_p < 1) {
    Measure sum = 0;
    each_logit(row, count, [&](int c, float logit) { sum += weight_of_left(c, logit); });
    sum = block_total(sum, s);
    const auto wanted = static_cast<Measure>(ceil(rule.top_p * static_cast<double>(sum)));
    const Measure last = item_at(row, count, weight_of_left, min(max(wanted, Measure{1}), sum), s);
    least = max(least, last);
  }
  const int drawn = walk(
      row, count, [&](int c, float logit) { return score(logit) >= rule.least ? weight_of_left(c, logit) : 0; },
      [&](Measure sum) { return min(static_cast<Measure>(rule.uniform * static_cast<double>(sum)) + 1, sum); }, s);
  if (threadIdx.x == 0) choice.id = drawn;
}

__global__ void __launch_bounds__(kMostThreads)
    name_choices_kernel(ChoiceOfRow* out, RowsView x, const RuleOfRow* rules) {
  await_earlier_kernels();
  __shared__ Scratch s;
  const RuleOfRow& rule = rules[blockIdx.x];
  ChoiceOfRow& choice = out[blockIdx.x];
  const float* row = x.data + blockIdx.x * x.row_stride;
  if (threadIdx.x == 0 && choice.id >= 0) choice.logit = row[choice.id];
  const int wanted = rule.most_likely, count = static_cast<int>(x.cols);
  if (wanted == 0 || !finite(choice.log_sum_exp)) return;
  const auto each = [](int, float) { return Measure{1}; };
  const Measure last = item_at(row, count, each, static_cast<Measure>(wanted), s);
  if (threadIdx.x == 0) s.filled = 0;
  __syncthreads();
  each_logit(row, count, [&](int c, float logit) {
    const Measure item = item_of(key_of(logit), c);
    if (item >= last) s.items[atomicAdd(&s.filled, 1u)] = item;
  });
  __syncthreads();
  // Each finds its place among these few.
  for (int i = static_cast<int>(threadIdx.x); i < wanted; i += static_cast<int>(blockDim.x)) {
    int earlier = 0;
    for (int j = 0; j < wanted; ++j) earlier += s.items[j] > s.items[i] ? 1 : 0;
    choice.likely_ids[earlier] = id_of(s.items[i]);
    choice.likely_logits[earlier] = row[id_of(s.items[i])];
  }
}

bool empty(const RowsView& x) { return x.rows * x.cols == 0; }

dim3 a_block_a_row(const RowsView& x) { return dim3(static_cast<unsigned>(x.rows)); }

// A power of two.
dim3 threads_for(int64_t cols) {
  unsigned threads = 32;
  while (threads < cols && threads < kMostThreads) threads *= 2;
  return dim3(threads);
}

}  // namespace

void choose_largest(Stream stream, ChoiceOfRow* out, const RowsView& x, int64_t num_ids) {
  if (empty(x)) return;
  VL2_LAUNCH_EARLY(choose_largest_kernel, a_block_a_row(x), threads_for(x.cols), 0, stream, out, x, num_ids);
}

void edit_logits(Stream stream, const RowsView& x, const EditOfLogit* edits, float* kept, int64_t count, bool undo) {
  if (empty(x) || count == 0) return;
  VL2_LAUNCH_EARLY(edit_kernel, dim3(static_cast<unsigned>((count + 255) / 256)), dim3(256), 0, stream, x, edits, kept,
                   count, undo);
}

void choose_by_rule(Stream stream, ChoiceOfRow* out, const RowsView& x, int64_t num_ids, const RuleOfRow* rules) {
  if (empty(x)) return;
  VL2_LAUNCH_EARLY(choose_by_rule_kernel, a_block_a_row(x), threads_for(x.cols), 0, stream, out, x, num_ids, rules);
}

void name_choices(Stream stream, ChoiceOfRow* out, const RowsView& x, const RuleOfRow* rules) {
  if (empty(x)) return;
  VL2_LAUNCH_EARLY(name_choices_kernel, a_block_a_row(x), threads_for(x.cols), 0, stream, out, x, rules);
}

}  // namespace vl2::cuda
