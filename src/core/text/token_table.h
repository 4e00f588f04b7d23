// A vocabulary: ids, spellings and bytes. Strings lie end to end in two buffers, ids are found by open addressing:
// loading looks up three spellings per merge, and node-based maps were half of the loading time.
//
// Owns everything; const functions from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

class TokenTable {
 public:
  // Bounds what a tiny file with one huge id can make us allocate (17 bytes an id).
  static constexpr int32_t kMaxId = (1 << 22) - 1;
  static constexpr size_t kMaxBytes = size_t{1} << 31;  // of all spellings
  static constexpr int32_t kNone = -1;

  void reserve(size_t num_tokens);
  // The id must be free and in range, the spelling new and not empty.
  void insert(std::string_view spelling, std::string_view bytes, int32_t id);

  int32_t find(std::string_view spelling) const;  // kNone
  bool has(int32_t id) const { return id >= 0 && id < num_ids() && entries_[static_cast<size_t>(id)].exists(); }
  std::string_view spelling(int32_t id) const;  // empty without a token
  std::string_view bytes(int32_t id) const;

  int32_t size() const { return size_; }  // tokens
  int32_t num_ids() const { return static_cast<int32_t>(entries_.size()); }

 private:
  struct Entry {
    uint32_t spelling_begin = 0;
    uint32_t spelling_size = 0;
    uint32_t bytes_begin = 0;
    uint32_t bytes_size = 0;
    bool exists() const { return spelling_size > 0; }
  };
  struct Slot {
    uint32_t hash = 0;
    int32_t id = kNone;
  };
  size_t find_slot(std::string_view spelling, uint32_t hash) const;
  void rehash(size_t num_slots);

  std::vector<Entry> entries_;  // by id
  std::string spellings_;
  std::string bytes_;
  std::vector<Slot> slots_ = std::vector<Slot>(16);  // a power of two, at most half full
  int32_t size_ = 0;
};

}  // namespace vl2
