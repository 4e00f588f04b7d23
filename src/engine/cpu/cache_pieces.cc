#include "engine/cpu/cache_pieces.h"

#include <algorithm>
#include <unordered_map>

#include "core/base/error.h"

namespace vl2::cpu {

CachePieces cut_cache(std::span<const SequenceSlice> sequences, int64_t keys_per_piece, int64_t block_tokens) {
  VL2_CHECK(keys_per_piece % block_tokens == 0, "pieces of {} keys from blocks of {}", keys_per_piece, block_tokens);
  CachePieces result;
  std::unordered_map<int32_t, size_t> by_first_block;  // of pieces that may be shared
  const auto blocks_of = [&](const SequenceSlice& s, int64_t begin) {
    return std::span<const int32_t>(s.blocks).subspan(static_cast<size_t>(begin / block_tokens),
                                                      static_cast<size_t>(keys_per_piece / block_tokens));
  };
  for (const SequenceSlice& s : sequences) {
    if (!s.decode) continue;
    const size_t index = result.readers.size();
    CachePieces::Reader& reader = result.readers.emplace_back(CachePieces::Reader{&s, {}});
    const int64_t keys = s.past + s.count;
    for (int64_t begin = 0; begin < keys; begin += keys_per_piece) {
      const int64_t end = std::min(begin + keys_per_piece, keys);
      size_t at = result.pieces.size();
      if (begin + keys_per_piece <= s.past) {
        const auto [known, is_new] = by_first_block.try_emplace(blocks_of(s, begin).front(), at);
        if (!is_new) {
          const CachePieces::Piece& piece = result.pieces[known->second];
          const SequenceSlice& other = *result.readers[piece.readers.front()].sequence;
          if (piece.begin == begin && std::ranges::equal(blocks_of(other, begin), blocks_of(s, begin)))
            at = known->second;
        }
      }
      if (at == result.pieces.size()) result.pieces.push_back({begin, end, 0, {}});
      CachePieces::Piece& piece = result.pieces[at];
      reader.parts.push_back({at, piece.rows});
      piece.readers.push_back(index);
      piece.rows += s.count;
    }
  }
  return result;
}

}  // namespace vl2::cpu
