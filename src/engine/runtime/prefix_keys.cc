#include "engine/runtime/prefix_keys.h"

#include <cstring>

#include "core/base/error.h"

namespace vl2 {
namespace {

using Words = std::vector<uint64_t>;
// What follows for a token: its id, or its row in a picture and the picture.
constexpr uint64_t kText = 0, kPicture = 1;

void append(Words& words, const Digest& digest) {
  const size_t at = words.size();
  words.resize(at + sizeof digest / sizeof(uint64_t));
  std::memcpy(words.data() + at, digest.bytes.data(), sizeof digest);
}

Digest digest_of(const Words& words) { return sha256(std::as_bytes(std::span(words))); }

}  // namespace

PictureKey picture_key(const TiledImage& image) {
  Words words = {static_cast<uint64_t>(image.tiles_wide), static_cast<uint64_t>(image.tiles_high),
                 static_cast<uint64_t>(image.tile_size)};
  append(words, sha256(std::as_bytes(std::span(image.pixels))));
  return digest_of(words);
}

std::vector<BlockKey> prefix_keys(const MultimodalPrompt& prompt, std::span<const PictureKey> pictures,
                                  std::span<const int64_t> picture_rows, int64_t block_tokens) {
  VL2_CHECK(pictures.size() == picture_rows.size() && block_tokens >= 1);
  std::vector<BlockKey> keys;
  BlockKey before;
  size_t picture = 0;
  int64_t row = 0;
  Words words;
  const auto length = static_cast<int64_t>(prompt.input_ids.size());
  for (int64_t begin = 0; begin + block_tokens <= length; begin += block_tokens) {
    words.clear();
    append(words, before);
    for (int64_t t = begin; t < begin + block_tokens; ++t) {
      const auto i = static_cast<size_t>(t);
      if (prompt.images_seq_mask.empty() || prompt.images_seq_mask[i] == 0) {
        words.insert(words.end(), {kText, static_cast<uint64_t>(prompt.input_ids[i])});
        continue;
      }
      while (picture < pictures.size() && row == picture_rows[picture]) {
        ++picture;
        row = 0;
      }
      VL2_CHECK(picture < pictures.size(), "token {} belongs to no picture", t);
      words.insert(words.end(), {kPicture, static_cast<uint64_t>(row)});
      append(words, pictures[picture]);
      ++row;
    }
    before = digest_of(words);
    keys.push_back(before);
  }
  return keys;
}

}  // namespace vl2
