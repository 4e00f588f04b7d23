// Multi-head attention over cached keys and values: rows of a prompt, rows of all answers, and what traces see.
//
// New keys and values are in the cache already (cache_append.h). A cache row: the keys of all groups, then their
// values.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// Rows of one sequence at positions past .. past + q.rows - 1; out and q begin at the sequence's first row.
struct CachedPrompt {
  RowsView out, q;  // [count, heads, size]
  CacheView cache;
  const int32_t* blocks = nullptr;  // the sequence's, in device memory
  int32_t groups = 1;
  int32_t past = 0;
  float scale = 1.0f;
  bool bf16 = false;        // operands of products rounded to bfloat16
  void* scratch = nullptr;  // cached_prompt_bytes(), 256-byte aligned
};
int64_t cached_prompt_bytes(int64_t keys, int64_t groups, int64_t size, bool bf16);
void cached_prompt(const CachedPrompt& args, Stream stream);
// The softmax weights of the same rows (of a prompt or an answer) in float32: probe [count, heads, columns], zeros
// beyond a row's own keys. out and bf16 are not used; scratch as for float32.
void cached_probe(const CachedPrompt& args, const RowsView& probe, Stream stream);

// All answers' rows of a batch; rows of prompts are left alone. Products in float32 whatever the cache holds.
struct CachedAnswers {
  RowsView out, q;  // [rows of the batch, heads, size]
  CacheView cache;
  SequencesView sequences;
  int32_t groups = 1;
  float scale = 1.0f;
  void* scratch = nullptr;  // cached_answers_bytes(), 256-byte aligned
};
int64_t cached_answers_bytes(const SequencesView& sequences, int64_t heads, int64_t size);
void cached_answers(const CachedAnswers& args, Stream stream);

}  // namespace vl2::cuda
