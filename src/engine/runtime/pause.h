// How long answers pause for those who have no token yet: between two of their tokens comes one piece of work, of tiles
// or of prompts, that is cut to the time it takes. Pure functions.
#pragma once

#include <cstdint>

namespace vl2 {

// Tiles to encode together: as many as nobody notices, 1 to `most`. tile_ms: what one took before; 0: not known yet.
int64_t tiles_beside_answers(double tile_ms, int64_t most);

// Tokens of prompts to run in one step: a quarter of a second of them, but enough that experts have several rows each,
// and never more than `most`. token_ms: what one took in a step of many; 0: not known yet.
int64_t prompt_tokens_beside_answers(double token_ms, int64_t most);

// Prompt tokens of a step that tells what one of many takes.
inline constexpr int64_t kManyPromptTokens = 64;

}  // namespace vl2
