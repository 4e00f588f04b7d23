// Softmax attention of a block of query rows over keys and values that are packed as panels.
#pragma once

#include "engine/cpu/cpu_context.h"

namespace vl2::cpu {

// Rows of queries that share one pass over the keys.
inline constexpr int64_t kQueryRows = 48;

// Keys [keys][size] and values [keys][v_size] of one head, packed: keys row-wise, values transposed.
struct HeadPanels {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  int64_t keys = 0;
  int64_t size = 0;
  int64_t v_size = 0;
};
HeadPanels allocate_panels(const CpuContext& context, int64_t keys, int64_t size, int64_t v_size);

// One thread's room for attend().
struct AttendScratch {
  float* scores;
  std::byte* packed;
  float* sums;
};
std::vector<AttendScratch> attend_scratch(const CpuContext& context, int64_t keys, int64_t size, int64_t v_size);

// out[r] = softmax(scale q[r] K^T) V for `rows` <= kQueryRows rows. Row r sees the first visible + r * step keys (step
// 1: causal, 0: all the same). probe (optional): row r's softmax goes to probe + r * probe_stride.
struct AttendTask {
  const float* q;
  int64_t q_stride;
  int64_t rows;
  int64_t visible;
  int64_t step;
  float scale;
  float* out;
  int64_t out_stride;
  float* probe = nullptr;
  int64_t probe_stride = 0;
  int64_t probe_columns = 0;
};
void attend(const CpuContext& context, const HeadPanels& head, const AttendTask& task, const AttendScratch& scratch);

}  // namespace vl2::cpu
