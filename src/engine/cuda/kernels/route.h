// The router: scores of every expert, and each token's choice, as engine/ops/router.cc does it.
#pragma once

#include "engine/cuda/device/stream.h"
#include "engine/cuda/kernels/matrix.h"

namespace vl2::cuda {

struct Route {
  // Chosen experts in ascending order within a token, [rows, top_k] each.
  int32_t* expert = nullptr;
  float* weight = nullptr;
  float* scores = nullptr;        // [rows, experts]
  float* choice = nullptr;        // [rows, experts], scores + bias; may be the memory of scores where there is no bias
  const float* logits = nullptr;  // [rows, logits_stride]; not read by route()
  int64_t logits_stride = 0;
  int64_t rows = 0, experts = 0;  // experts: 4096 at most
  int64_t top_k = 1;              // 32 at most
  int64_t num_groups = 1;         // 32 at most
  int64_t topk_groups = 1;
  const float* bias = nullptr;  // [experts], optional
  bool sigmoid = false;         // else softmax
  bool limit_groups = false;    // choose inside the topk_groups best groups alone
  bool two_best = false;        // a group's score is the sum of its two best choices, not its best
  bool normalise = false;
  float scaling = 1.0f;
};
// From logits that a product of many rows has left.
void choose_experts(Stream stream, const Route& args);

// Logits and choice in one launch, for few rows; gate [experts, cols] is float32.
struct RouteFew {
  Route route;  // without logits
  const float* x = nullptr;
  int64_t x_stride = 0;
  MatrixView gate;
  float* logits = nullptr;      // scratch, [rows, experts]
  int32_t* counters = nullptr;  // scratch, [rows]; zeros before the first call, and left as zeros
};
void route(Stream stream, const RouteFew& args);

}  // namespace vl2::cuda
