#include "engine/cpu/attend.h"

#include <algorithm>

namespace vl2::cpu {

HeadPanels allocate_panels(const CpuContext& context, int64_t keys, int64_t size, int64_t v_size) {
  const Format format = context.activation_format();
  HeadPanels head;
  head.k = context.workspace.bytes(static_cast<size_t>(num_panels(keys) * panel_bytes(format, size)));
  head.v = context.workspace.bytes(static_cast<size_t>(num_panels(v_size) * panel_bytes(format, keys)));
  head.keys = keys;
  head.size = size;
  head.v_size = v_size;
  return head;
}

std::vector<AttendScratch> attend_scratch(const CpuContext& context, int64_t keys, int64_t size, int64_t) {
  const GemmKernel& kernel = context.gemm(context.activation_format());
  const int64_t packed = std::max(kernel.packed_a_bytes(kQueryRows, size), kernel.packed_a_bytes(kQueryRows, keys));
  std::vector<AttendScratch> result;
  for (int t = 0; t < context.pool.num_threads(); ++t)
    result.push_back({context.workspace.array<float>(kQueryRows * round_up(keys, kPanel)).data(),
                      context.workspace.bytes(static_cast<size_t>(packed)),
                      context.workspace.array<float>(gemm_scratch_floats(kQueryRows)).data()});
  return result;
}

void attend(const CpuContext& context, const HeadPanels& head, const AttendTask& task, const AttendScratch& scratch) {
  const GemmKernel& kernel = context.gemm(context.activation_format());
  const int64_t keys = task.visible + (task.rows - 1) * task.step;  // what the last row sees
  const int64_t stride = round_up(keys, kPanel);
  kernel.pack_a(task.q, task.q_stride, nullptr, task.rows, head.size, scratch.packed);
  multiply(kernel, scratch.packed, task.rows, head.k, keys, head.size, scratch.scores, stride, scratch.sums);

  float inverse[kQueryRows];
  for (int64_t r = 0; r < task.rows; ++r) {
    float* scores = scratch.scores + r * stride;
    const int64_t visible = task.visible + r * task.step;
    float top = 0;
    inverse[r] = 1.0f / context.kernels.exp_row(scores, visible, task.scale, &top);
    std::fill(scores + visible, scores + keys, 0.0f);
    if (task.probe != nullptr) {
      float* probe = task.probe + r * task.probe_stride;
      std::fill_n(probe, task.probe_columns, 0.0f);
      std::transform(scores, scores + visible, probe, [&](float p) { return p * inverse[r]; });
    }
  }
  kernel.pack_a(scratch.scores, stride, nullptr, task.rows, keys, scratch.packed);
  kernel.run({scratch.packed, task.rows, head.v, num_panels(head.v_size), keys, task.out, task.out_stride, head.v_size,
              nullptr, Epilogue::kStore, scratch.sums, head.keys});
  for (int64_t r = 0; r < task.rows; ++r)
    context.kernels.scale_row(task.out + r * task.out_stride, head.v_size, inverse[r]);
}

}  // namespace vl2::cpu
