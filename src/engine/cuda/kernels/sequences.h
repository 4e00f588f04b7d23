// What attention kernels know of a batch's sequences and of the cache. All pointers are device memory; the backend
// uploads a batch's tables once a step.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vl2::cuda {

// Rows [begin, begin + count) of the batch stand at positions past .. past + count - 1 of one sequence.
struct SequenceRows {
  int32_t begin = 0;
  int32_t count = 0;
  int32_t past = 0;
  int32_t first_block = 0;   // of its block numbers in block_table
  int32_t decode = 0;        // 1: tokens of an answer
  int32_t first_answer = 0;  // decode: number of its first row among the rows of all answers
};

struct SequencesView {
  const SequenceRows* sequences = nullptr;  // [num_sequences], in order, covering all rows
  const int32_t* block_table = nullptr;     // block numbers, a sequence's in order
  const int32_t* row_sequence = nullptr;    // [rows] the sequence each row belongs to
  const int32_t* answer_rows = nullptr;     // [decode_rows] the batch's rows that belong to answers, in order
  int32_t num_sequences = 0;
  int32_t rows = 0;
  // Known on the host, for the shape of grids; kernels that are replayed read `sequences` instead.
  int32_t longest_context = 0;  // largest past + count
  int32_t longest_count = 0;    // largest count
  int32_t decode_rows = 0;      // rows that belong to answers
  int32_t longest_answer = 0;   // largest count of an answer; 0: not known
};

// One layer of the cache: [block][token of the block][width] values, float32 or bfloat16. A row of cached_attention's
// is the keys of all groups, then their values; of latent_attention's the latent, then the rotated key.
struct CacheView {
  void* data = nullptr;
  bool bf16 = false;
  int32_t block_tokens = 0;
  int32_t width = 0;
};

}  // namespace vl2::cuda
