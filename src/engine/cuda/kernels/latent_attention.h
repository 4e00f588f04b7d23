// Multi-head latent attention (spec: model 6.4, 8). New latents are in the cache already (cache_append.h). A cache row:
// the latent [rank], then the rotated key [R].
//
// Rows of a prompt: gather_latents, then Device::gemm of the latents with W_kvb (all heads, or some: its rows are heads
// one after another), then latent_prompt on what came out. Rows of answers: latent_answers, which absorbs W_UK and W_UV
// with kernels of its own that read the weights once for up to eight rows.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/latent_weights.h"
#include "engine/cuda/kernels/matrix.h"
#include "engine/cuda/kernels/sequences.h"

namespace vl2::cuda {

// Tokens 0 .. keys - 1 of one sequence, as rows of a product.
struct GatherLatents {
  void* out = nullptr;  // [keys, stride] float32 or bfloat16, 16-byte aligned
  bool bf16 = false;    // of out
  int32_t stride = 0;   // >= rank; zeros behind the rank
  int32_t keys = 0, rank = 0;
  CacheView cache;
  const int32_t* blocks = nullptr;  // the sequence's, in device memory
};
void gather_latents(const GatherLatents& args, Stream stream);

// Rows of one sequence at positions past .. past + q.rows - 1 and q.heads heads of it; out and q begin at the first.
struct LatentPrompt {
  RowsView out;               // [count, heads, v]
  RowsView q;                 // [count, heads, qk_nope + R]
  const float* kv = nullptr;  // [past + count, kv_stride]: of each of these heads k_nope [qk_nope], then v [v]
  int64_t kv_stride = 0;
  int32_t qk_nope = 0, rank = 0;
  CacheView cache;
  const int32_t* blocks = nullptr;
  int32_t past = 0;
  float scale = 1.0f;
  bool bf16 = false;        // operands of products rounded to bfloat16
  void* scratch = nullptr;  // latent_prompt_bytes(), 256-byte aligned
};
// size: qk_nope + R
int64_t latent_prompt_bytes(int64_t keys, int64_t heads, int64_t size, int64_t v, bool bf16);
void latent_prompt(const LatentPrompt& args, Stream stream);
// The softmax weights of the same rows (of a prompt or an answer) in float32: probe [count, heads, columns], zeros
// beyond a row's own keys. out.data and bf16 are not used (out.cols is: v); scratch as for float32.
void latent_probe(const LatentPrompt& args, const RowsView& probe, Stream stream);

// All answers' rows of a batch; rows of prompts are left alone.
struct LatentAnswers {
  RowsView out;          // [rows of the batch, heads, v]
  RowsView q;            // [rows of the batch, heads, qk_nope + R]
  LatentMatrix weights;  // float32 or bfloat16
  CacheView cache;
  SequencesView sequences;
  float scale = 1.0f;
  bool bf16 = false;            // operands of products with latents rounded to bfloat16
  int32_t multiprocessors = 1;  // of the device: pieces of the context are cut for them
  void* scratch = nullptr;      // latent_answers_bytes(), 256-byte aligned
};
int64_t latent_answers_bytes(const LatentAnswers& args);  // of everything but the pointers
void latent_answers(const LatentAnswers& args, Stream stream);

}  // namespace vl2::cuda
