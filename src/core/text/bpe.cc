#include "core/text/bpe.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2 {
namespace {

constexpr uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

constexpr size_t kShortPiece = 32;  // bytes; where the heap begins to win
constexpr uint32_t kNone = UINT32_MAX;

}  // namespace

MergeTable::MergeTable(size_t num_merges) : slots_(std::bit_ceil(std::max<size_t>(16, num_merges * 2 + 2))) {}

size_t MergeTable::first_slot(uint64_t key) const { return splitmix64(key) & (slots_.size() - 1); }

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = pair_key(left, right);
  size_t slot = first_slot(key);
  while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & (slots_.size() - 1);
  slots_[slot] = {key, merge};
}

Merge MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t slot = first_slot(key);; slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].key == key) return slots_[slot].merge;
    if (slots_[slot].key == kEmpty) return {};
  }
}

int32_t Bpe::byte_id(char byte) const {
  const auto value = static_cast<uint8_t>(byte);
  if (byte_ids_[value] == kNoToken)
    fail(ErrorCode::kInvalidArgument, "the tokenizer's vocabulary has no token for byte 0x{:02X} of this text", value);
  return byte_ids_[value];
}

void Bpe::encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (piece.size() <= kShortPiece)
    encode_short(piece, scratch, ids);
  else
    encode_long(piece, scratch, ids);
}

void Bpe::encode_short(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  auto& symbols = scratch.ids;
  auto& merges = scratch.merges;  // merges[i]: of symbols i and i + 1
  symbols.clear();
  for (const char byte : piece) symbols.push_back(byte_id(byte));
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) merges.push_back(merges_.find(symbols[i], symbols[i + 1]));
  while (true) {
    size_t best = merges.size();
    for (size_t i = 0; i < merges.size(); ++i)
      if (merges[i].id >= 0 && (best == merges.size() || merges[i].rank < merges[best].rank)) best = i;
    if (best == merges.size()) break;
    symbols[best] = merges[best].id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    merges.erase(merges.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) merges[best - 1] = merges_.find(symbols[best - 1], symbols[best]);
    if (best < merges.size()) merges[best] = merges_.find(symbols[best], symbols[best + 1]);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void Bpe::encode_long(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const {
  if (piece.size() > kMaxPiece)
    fail(ErrorCode::kInvalidArgument, "a piece of {} bytes is more than the tokenizer takes ({}): split the text",
         piece.size(), kMaxPiece);
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto size = static_cast<uint32_t>(piece.size());
  symbols.clear();
  heap.clear();
  for (uint32_t i = 0; i < size; ++i)
    symbols.push_back({byte_id(piece[i]), i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1});

  const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto candidate = [&](uint32_t left, Scratch::Candidate& out) {
    const uint32_t right = symbols[left].next;
    if (right == kNone) return false;
    const Merge merge = merges_.find(symbols[left].id, symbols[right].id);
    out = {merge.rank, left, symbols[left].id, symbols[right].id, merge.id};
    return merge.id >= 0;
  };
  const auto push = [&](uint32_t left) {
    Scratch::Candidate c;
    if (!candidate(left, c)) return;
    heap.push_back(c);
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (uint32_t i = 0; i + 1 < size; ++i) {
    Scratch::Candidate c;
    if (candidate(i, c)) heap.push_back(c);
  }
  std::make_heap(heap.begin(), heap.end(), later);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    auto& left = symbols[top.left];
    if (left.id != top.left_id || left.next == kNone || symbols[left.next].id != top.right_id) continue;
    auto& right = symbols[left.next];
    left.id = top.merged_id;
    right.id = kNoToken;  // gone: no candidate names it
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = top.left;
    if (left.previous != kNone) push(left.previous);
    push(top.left);
  }
  if (size == 0) return;
  for (uint32_t i = 0; i != kNone; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace vl2
