// B: samples of a group, L: padded length.
#include "train/model/sequence_layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace vl2::train {
namespace {

struct Sample {
  int64_t begin, length;
};

at::Tensor causal_mask(int64_t length, at::ScalarType compute) {
  return at::full({length, length}, kHidden, at::kFloat).triu_(1).to(compute).unsqueeze(0);
}

at::Tensor with_hidden_keys(const at::Tensor& causal_1LL, const std::vector<Sample>& samples, int64_t length,
                            std::span<const uint8_t> key_mask) {
  at::Tensor hidden_BL = at::zeros({static_cast<int64_t>(samples.size()), 1, length}, at::kFloat);
  auto* values = hidden_BL.data_ptr<float>();
  for (size_t b = 0; b < samples.size(); ++b)
    for (int64_t t = 0; t < samples[b].length; ++t)
      if (key_mask[static_cast<size_t>(samples[b].begin + t)] == 0)
        values[static_cast<int64_t>(b) * length + t] = static_cast<float>(kHidden);
  return causal_1LL.to(at::kFloat).add(hidden_BL).clamp_min_(kHidden).to(causal_1LL.scalar_type());
}

}  // namespace

int64_t rounded_length(int64_t length) {
  const int64_t step = length <= 64 ? 16 : length <= 1024 ? 64 : 128;
  return (length + step - 1) / step * step;
}

at::Tensor SequenceLayout::gather(const at::Tensor& flat) const {
  return to_groups.defined() ? move_rows(flat, to_groups, to_flat) : flat;
}

at::Tensor SequenceLayout::scatter(const at::Tensor& grouped) const {
  return to_groups.defined() ? move_rows(grouped, to_flat, to_groups) : grouped;
}

SequenceLayout sequence_layout(std::span<const int64_t> sample_starts, int64_t rows, std::span<const uint8_t> key_mask,
                               at::ScalarType compute, at::Device device) {
  std::vector<Sample> samples;
  for (size_t i = 0; i + 1 < sample_starts.size(); ++i)
    if (sample_starts[i + 1] > sample_starts[i])
      samples.push_back({sample_starts[i], sample_starts[i + 1] - sample_starts[i]});
  std::stable_sort(samples.begin(), samples.end(),
                   [](const Sample& a, const Sample& b) { return a.length > b.length; });

  SequenceLayout layout;
  std::vector<int64_t> there, back(static_cast<size_t>(rows), -1);
  for (size_t first = 0; first < samples.size();) {
    SequenceLayout::Group group;
    group.longest = samples[first].length;
    group.length = rounded_length(group.longest);
    // Up to an eighth of padding is cheaper than another group of small products.
    const int64_t shortest = group.longest - std::max<int64_t>(16, group.length / 8);
    std::vector<Sample> members;
    for (; first < samples.size() && samples[first].length >= shortest; ++first) members.push_back(samples[first]);
    group.samples = static_cast<int64_t>(members.size());
    for (const Sample& sample : members) {
      for (int64_t t = 0; t < group.length; ++t) {
        if (t < sample.length) back[static_cast<size_t>(sample.begin + t)] = static_cast<int64_t>(there.size());
        there.push_back(t < sample.length ? sample.begin + t : -1);
      }
    }
    at::Tensor mask = causal_mask(group.length, compute);
    if (!key_mask.empty()) mask = with_hidden_keys(mask, members, group.length, key_mask);
    group.mask_BLL = mask.to(device);
    layout.group_rows.push_back(group.samples * group.length);
    layout.groups.push_back(std::move(group));
  }
  std::vector<int64_t> same(static_cast<size_t>(rows));
  std::iota(same.begin(), same.end(), int64_t{0});
  if (there != same || back != same) {
    layout.to_groups = RowMap(there, device);
    layout.to_flat = RowMap(back, device);
  }
  return layout;
}

SequenceLayout row_layout(std::span<const int64_t> sample_starts, std::span<const int64_t> row_starts, int64_t rows,
                          at::ScalarType compute, at::Device device) {
  SequenceLayout::Group group;
  group.samples = std::ssize(row_starts) - 1;
  for (size_t r = 0; r + 1 < row_starts.size(); ++r)
    group.longest = std::max(group.longest, row_starts[r + 1] - row_starts[r]);
  group.length = rounded_length(group.longest);

  // Of each place its sample's number; -1 behind the last.
  std::vector<int64_t> there(static_cast<size_t>(group.samples * group.length), -1), sample_of(there.size(), -1);
  std::vector<int64_t> back(static_cast<size_t>(rows), -1);
  size_t sample = 0;
  for (int64_t r = 0; r < group.samples; ++r) {
    for (int64_t t = row_starts[static_cast<size_t>(r)], place = r * group.length;
         t < row_starts[static_cast<size_t>(r) + 1]; ++t, ++place) {
      while (sample_starts[sample + 1] <= t) ++sample;
      there[static_cast<size_t>(place)] = t;
      sample_of[static_cast<size_t>(place)] = static_cast<int64_t>(sample);
      back[static_cast<size_t>(t)] = place;
    }
  }
  const at::Tensor sample_BL = to_tensor(sample_of, device).view({group.samples, group.length});
  const at::Tensor other_BLL = sample_BL.unsqueeze(2).ne(sample_BL.unsqueeze(1));
  group.mask_BLL =
      causal_mask(group.length, compute).to(device).expand(other_BLL.sizes()).masked_fill(other_BLL, kHidden);

  SequenceLayout layout;
  layout.to_groups = RowMap(there, device);
  layout.to_flat = RowMap(back, device);
  layout.group_rows.push_back(group.samples * group.length);
  layout.groups.push_back(std::move(group));
  return layout;
}

}  // namespace vl2::train
