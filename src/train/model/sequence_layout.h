// How the flat rows of a micro-batch are laid out for attention: samples of about the same length padded to a group,
// [samples, length]. Causal attention makes padding behind a sample harmless, so it needs no mask.
//
// Immutable once made; tensors on the model's device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "train/model/tensor_ops.h"

namespace vl2::train {

struct SequenceLayout {
  struct Group {
    int64_t samples = 0, length = 0, longest = 0;  // padded length, and that of the longest sample
    at::Tensor mask_BLL;  // what is added to scores: 0 or a large negative number, [1 or samples, length, length]
  };
  std::vector<Group> groups;
  // Flat rows to the groups' rows one group behind the other, and back; undefined: they are the same.
  RowMap to_groups, to_flat;
  std::vector<int64_t> group_rows;  // samples * length of each

  at::Tensor gather(const at::Tensor& flat) const;      // [rows, ...] -> [sum of group_rows, ...]
  at::Tensor scatter(const at::Tensor& grouped) const;  // back; rows of no sample are zeros
};

// `rows` flat rows, of which samples cover the first. key_mask: [T], 0 hides a key; empty: none hidden.
SequenceLayout sequence_layout(std::span<const int64_t> sample_starts, int64_t rows, std::span<const uint8_t> key_mask,
                               at::ScalarType compute, at::Device device);

// The batch's rows as they lie, side by side: all samples in one product, whose mask also keeps them apart. More is
// computed and much less is started: for a GPU. row_starts: each of whole samples, up to the last token.
SequenceLayout row_layout(std::span<const int64_t> sample_starts, std::span<const int64_t> row_starts, int64_t rows,
                          at::ScalarType compute, at::Device device);

// Lengths of which few different ones occur: oneDNN compiles every new shape of a bf16 product (milliseconds each).
int64_t rounded_length(int64_t length);

inline constexpr double kHidden = -1e30;  // added to a score: no weight after the softmax, and finite in bf16

}  // namespace vl2::train
