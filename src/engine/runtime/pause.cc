#include "engine/runtime/pause.h"

#include <algorithm>

namespace vl2 {
namespace {

constexpr double kUnnoticedMs = 50;  // a few of these follow each other
constexpr double kBearableMs = 250;  // running fewer tokens at a time costs more for each
constexpr int64_t kFewTokens = 128;
constexpr int64_t kTokenStep = 64;

int64_t as_many(double ms, double each_ms) { return static_cast<int64_t>(std::min(ms / each_ms, 1e9)); }

}  // namespace

int64_t tiles_beside_answers(double tile_ms, int64_t most) {
  if (tile_ms <= 0) return 1;
  return std::clamp(as_many(kUnnoticedMs, tile_ms), int64_t{1}, most);
}

int64_t prompt_tokens_beside_answers(double token_ms, int64_t most) {
  if (token_ms <= 0) return std::min(kFewTokens, most);
  const int64_t tokens = as_many(kBearableMs, token_ms) / kTokenStep * kTokenStep;
  return std::min(std::max(tokens, kFewTokens), most);
}

}  // namespace vl2
