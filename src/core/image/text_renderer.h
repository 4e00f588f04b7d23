// One line of text -> a mask of coverages, shaped by HarfBuzz and drawn by FreeType. Takes any script the machine has a
// font for: every character comes from the first font that has it, and one that no font has is drawn as the first
// font's empty box. Lines that mix writing directions are ordered by a simplified form of the Unicode algorithm
// (no explicit embeddings, neutral characters go with what precedes them).
//
// Owns the fonts it has opened. One thread at a time per renderer; several renderers may run at once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace vl2 {

struct TextMask {
  int64_t width = 0;  // 0: not even one character fits, or there was nothing to draw
  int64_t height = 0;
  std::vector<uint8_t> coverage;          // [height][width], 255 = ink
  std::optional<char32_t> missing_glyph;  // the first character that no font has
};

class TextRenderer {
 public:
  // `font`, if given, is asked first; kInvalidArgument when it cannot be read as a scalable font. The rest are the
  // fonts below `folders`, opened as they are needed.
  TextRenderer(const std::optional<std::filesystem::path>& font, const std::vector<std::filesystem::path>& folders);
  ~TextRenderer();
  TextRenderer(const TextRenderer&) = delete;
  TextRenderer& operator=(const TextRenderer&) = delete;

  // False when the machine has no usable font at all; render() then returns empty masks.
  bool has_font() const;

  // UTF-8 (broken sequences become U+FFFD, control characters spaces) at `size` pixels an em, with `padding` pixels of
  // nothing left and right of it. A line wider than max_width ends in an ellipsis. The height depends on size alone.
  TextMask render(std::string_view text, int64_t size, int64_t padding, int64_t max_width);

 private:
  struct Fonts;
  std::unique_ptr<Fonts> fonts_;
};

}  // namespace vl2
