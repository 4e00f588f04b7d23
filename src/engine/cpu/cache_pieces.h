// The cached keys that rows of answers read, cut into pieces of work. Sequences that hold the same blocks, as answers
// about one picture or under one system prompt do, share their pieces: what they have in common is read once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ops/weight.h"

namespace vl2::cpu {

struct CachePieces {
  // Keys [begin, end) of one sequence or more, and as many rows of this step as they have together.
  struct Piece {
    int64_t begin, end;
    int64_t rows;
    std::vector<size_t> readers;
  };
  // A reader's rows begin at row `first_row` of the piece.
  struct Part {
    size_t piece;
    int64_t first_row;
  };
  // A sequence that decodes, and its parts by ascending keys.
  struct Reader {
    const SequenceSlice* sequence;
    std::vector<Part> parts;
  };
  std::vector<Piece> pieces;
  std::vector<Reader> readers;
};

// keys_per_piece: a multiple of block_tokens. A piece is shared only where all its keys were cached before this step.
CachePieces cut_cache(std::span<const SequenceSlice> sequences, int64_t keys_per_piece, int64_t block_tokens);

}  // namespace vl2::cpu
