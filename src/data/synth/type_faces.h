// The fonts of the synthetic sets, chosen by their file names: training draws its texts in some faces, tests in two
// others that training never uses, whatever else the machine has.
//
// train (those that are there)   DejaVu Sans, Sans Bold, Sans Oblique, Sans Condensed, Sans Mono, Serif, Serif Italic;
//                                Liberation Sans, Sans Bold, Serif, Serif Italic, Mono; Free Sans, Sans Bold, Serif
// test                           DejaVu Serif Bold, DejaVu Sans Mono Bold
// Chinese, both                  the first of WenQuanYi Micro Hei, Noto Sans CJK, Noto Sans SC, Droid Sans Fallback
//
// Owns the opened fonts. One thread at a time; several TypeFaces may be used at once.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/image/text_renderer.h"

namespace vl2::data::synth {

enum class Split { kTrain, kTest };

struct FontFile {
  std::string name;  // file name without extension, in lower case
  std::filesystem::path path;
};

// The faces of a split that are below the folders, in the order of the list above.
std::vector<FontFile> find_faces(Split split, std::span<const std::filesystem::path> folders);
// None or one.
std::vector<FontFile> find_chinese_face(std::span<const std::filesystem::path> folders);

class TypeFaces {
 public:
  // kNotFound: no face of the split is there, with the package that has them.
  TypeFaces(Split split, std::span<const std::filesystem::path> folders);

  size_t size() const { return faces_.size(); }
  bool has_chinese() const { return chinese_ != nullptr; }
  std::vector<std::string> names() const;  // the Chinese one last

  // `size` pixels an em; a line wider than max_width comes back empty (width 0).
  TextMask render(size_t face, std::string_view text, int64_t size, int64_t max_width);
  TextMask render_chinese(std::string_view text, int64_t size, int64_t max_width);

 private:
  std::vector<FontFile> files_;
  std::vector<std::unique_ptr<TextRenderer>> faces_;
  std::unique_ptr<TextRenderer> chinese_;
};

}  // namespace vl2::data::synth
