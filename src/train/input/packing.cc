#include "train/input/packing.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace vl2::train {

std::vector<size_t> choose_pack(std::span<const int64_t> lengths, int64_t max_length) {
  for (const int64_t length : lengths)
    VL2_CHECK(length >= 1 && length <= max_length, "{} tokens, a row has {}", length, max_length);
  std::vector<size_t> row;
  if (lengths.empty()) return row;
  std::vector<size_t> order(lengths.size() - 1);
  std::iota(order.begin(), order.end(), size_t{1});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  row.push_back(0);
  int64_t room = max_length - lengths[0];
  for (const size_t i : order)
    if (lengths[i] <= room) {
      row.push_back(i);
      room -= lengths[i];
    }
  return row;
}

}  // namespace vl2::train
