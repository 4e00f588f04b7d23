// Byte-pair encoding of one piece: repeatedly merge the adjacent pair of lowest rank, the leftmost of equals, until no
// pair has a rank. Immutable once filled; any thread may encode, each with its own scratch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace vl2 {

struct Merge {
  uint32_t rank = 0;
  int32_t id = -1;  // of the merged token; -1: the pair does not merge
};

// (left id, right id) -> Merge, open addressing: the inner loop of every encode.
class MergeTable {
 public:
  explicit MergeTable(size_t num_merges = 0);
  void insert(int32_t left, int32_t right, Merge merge);  // the last of equal pairs stays; at most num_merges calls
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t first_slot(uint64_t key) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
};

class Bpe {
 public:
  // Buffers of one encode() call, reused over its pieces.
  struct Scratch {
    struct Symbol {
      int32_t id;
      uint32_t previous;
      uint32_t next;
    };
    struct Candidate {
      uint32_t rank;
      uint32_t left;    // position of the left symbol
      int32_t left_id;  // what the pair was when it was queued: later merges make the entry stale
      int32_t right_id;
      int32_t merged_id;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::vector<int32_t> ids;
    std::vector<Merge> merges;
  };

  static constexpr int32_t kNoToken = -1;
  static constexpr size_t kMaxPiece = size_t{1} << 30;  // bytes

  // byte_ids: the token of every byte, kNoToken where the vocabulary has none.
  Bpe() { byte_ids_.fill(kNoToken); }
  Bpe(const std::array<int32_t, 256>& byte_ids, MergeTable merges) : byte_ids_(byte_ids), merges_(std::move(merges)) {}

  // Appends the ids of the piece. kInvalidArgument: a byte has no token, or the piece is longer than kMaxPiece.
  void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

  // The two ways encode() takes, equal in result; exposed for tests. Quadratic and quick for words, and n log n.
  void encode_short(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;
  void encode_long(std::string_view piece, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  int32_t byte_id(char byte) const;

  std::array<int32_t, 256> byte_ids_;
  MergeTable merges_;
};

}  // namespace vl2
