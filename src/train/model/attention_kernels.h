// Attention of one sample's heads, forward and backward, over bf16 rows as they lie: no copies with the heads in front,
// no padding, and scores that never leave a thread's cache. libtorch's way through batched products takes a third of a
// small model's step.
//
// Everything is float32 inside and rounded once. Plain loops without libtorch; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace vl2::train {

// Rows of one sample: element (row, head, channel) is at data[row * row_stride + head * head_stride + channel].
template <typename T>
struct HeadRows {
  T* data = nullptr;
  int64_t row_stride = 0, head_stride = 0;
  T* at(int64_t row, int64_t head) const { return data + row * row_stride + head * head_stride; }
};

struct AttentionSizes {
  int64_t length = 0;                  // rows of the sample
  int64_t heads_a_group = 1;           // heads that share keys and values
  int64_t width = 0, value_width = 0;  // channels of q and k, and of v
  float scale = 1;
  bool causal = false;
};

struct AttentionKernels {
  using Half = uint16_t;  // bf16's bits
  // Heads group * heads_a_group and the following of q and out with head `group` of k and v.
  struct Forward {
    HeadRows<const Half> q, k, v;
    HeadRows<Half> out;
    HeadRows<float> lse;  // one a head: the logarithm of the softmax's denominator, kept for the way back
  };
  struct Backward {
    HeadRows<const Half> q, k, v, out, dout;
    HeadRows<const float> lse;
    HeadRows<Half> dq, dk, dv;
  };
  // `scratch` grows as needed and holds nothing between calls.
  void (*forward)(const AttentionSizes& sizes, int64_t group, const Forward& rows, std::vector<float>& scratch);
  void (*backward)(const AttentionSizes& sizes, int64_t group, const Backward& rows, std::vector<float>& scratch);
};

// Those of this processor, and all it can run for tests: as row_kernels().
const AttentionKernels& attention_kernels();
const AttentionKernels& attention_kernels(int which);

}  // namespace vl2::train
