#include "core/text/token_table.h"

#include <bit>
#include <functional>

#include "core/base/error.h"

namespace vl2 {
namespace {

uint32_t hash_of(std::string_view text) { return static_cast<uint32_t>(std::hash<std::string_view>()(text)); }

}  // namespace

size_t TokenTable::find_slot(std::string_view spelling, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    const Slot& s = slots_[slot];
    if (s.id == kNone || (s.hash == hash && this->spelling(s.id) == spelling)) return slot;
  }
}

void TokenTable::rehash(size_t num_slots) {
  std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(num_slots));
  for (const Slot& s : old) {
    if (s.id == kNone) continue;
    size_t slot = s.hash & (num_slots - 1);
    while (slots_[slot].id != kNone) slot = (slot + 1) & (num_slots - 1);
    slots_[slot] = s;
  }
}

void TokenTable::reserve(size_t num_tokens) {
  const size_t num_slots = std::bit_ceil(num_tokens * 2 + 16);
  if (num_slots > slots_.size()) rehash(num_slots);
}

void TokenTable::insert(std::string_view spelling, std::string_view bytes, int32_t id) {
  VL2_CHECK(id >= 0 && id <= kMaxId && !has(id), "id {}", id);
  VL2_CHECK(!spelling.empty() && spellings_.size() + spelling.size() + bytes.size() < kMaxBytes);
  if (static_cast<size_t>(size_ + 1) * 2 > slots_.size()) rehash(slots_.size() * 2);
  const uint32_t hash = hash_of(spelling);
  const size_t slot = find_slot(spelling, hash);
  VL2_CHECK(slots_[slot].id == kNone, "id {}: the spelling has an id already", id);
  if (id >= num_ids()) entries_.resize(static_cast<size_t>(id) + 1);
  entries_[static_cast<size_t>(id)] = {static_cast<uint32_t>(spellings_.size()), static_cast<uint32_t>(spelling.size()),
                                       static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(bytes.size())};
  spellings_ += spelling;
  bytes_ += bytes;
  slots_[slot] = {hash, id};
  ++size_;
}

int32_t TokenTable::find(std::string_view spelling) const { return slots_[find_slot(spelling, hash_of(spelling))].id; }

std::string_view TokenTable::spelling(int32_t id) const {
  if (!has(id)) return {};
  const Entry& e = entries_[static_cast<size_t>(id)];
  return std::string_view(spellings_).substr(e.spelling_begin, e.spelling_size);
}

std::string_view TokenTable::bytes(int32_t id) const {
  if (!has(id)) return {};
  const Entry& e = entries_[static_cast<size_t>(id)];
  return std::string_view(bytes_).substr(e.bytes_begin, e.bytes_size);
}

}  // namespace vl2
