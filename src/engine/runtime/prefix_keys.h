// Names for the blocks of a prompt: equal names, equal rows in the cache.
//
// A block's key is a hash of its ids, of the pictures behind its placeholders, and of the key before it. Nobody can
// send a prompt whose blocks are taken for another's. Only rows of a prompt have names: a backend may compute rows of
// an answer in another order, so they are not the bits of a prompt that quotes the answer (docs/decisions/0007).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/sha256.h"
#include "core/processor/multimodal_prompt.h"
#include "engine/runtime/kv_blocks.h"

namespace vl2 {

// Of what the vision encoder gets: pixels of the tiles, and how they are laid out. Two pictures with the same key have
// the same features.
using PictureKey = Digest;

PictureKey picture_key(const TiledImage& image);

// Of every full block of the prompt. `pictures`: the keys of prompt.images; their rows stand at the places of the mask
// in order, picture_rows[i] of them for picture i.
std::vector<BlockKey> prefix_keys(const MultimodalPrompt& prompt, std::span<const PictureKey> pictures,
                                  std::span<const int64_t> picture_rows, int64_t block_tokens);

}  // namespace vl2
