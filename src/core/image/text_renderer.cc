#include "core/image/text_renderer.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H
#include <hb-ft.h>
#include <hb.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "core/image/fonts.h"

namespace vl2 {
namespace {

constexpr FT_Int32 kLoadFlags = FT_LOAD_NO_BITMAP | FT_LOAD_TARGET_LIGHT;
constexpr size_t kMaxOpenFonts = 64;    // a machine may have thousands; by then the character is rare indeed
constexpr size_t kMaxCharacters = 400;  // of a label; what follows could not be read in any picture
constexpr size_t kMaxTextBytes = 4 * kMaxCharacters;
constexpr char32_t kEllipsis = 0x2026;

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
using Library = std::unique_ptr<FT_LibraryRec_, Free<FT_Done_FreeType>>;
using Face = std::unique_ptr<FT_FaceRec_, Free<FT_Done_Face>>;
using Shaper = std::unique_ptr<hb_font_t, Free<hb_font_destroy>>;
using Buffer = std::unique_ptr<hb_buffer_t, Free<hb_buffer_destroy>>;

struct Font {
  Face face;
  Shaper shaper;  // destroyed before the face it reads
};

// A stretch of one font, script and direction.
struct Run {
  size_t begin = 0, end = 0;  // characters
  size_t font = 0;
  hb_script_t script = HB_SCRIPT_UNKNOWN;
  bool right_to_left = false;
  int level = 0;  // as in Unicode's bidirectional algorithm: odd runs read from right to left
};

struct Glyph {
  size_t font = 0;
  hb_codepoint_t id = 0;
  int64_t x = 0, y = 0;  // of the origin on the base line, 1/64 pixel, y up
};

struct Line {
  std::vector<Glyph> glyphs;
  int64_t advance = 0;  // 1/64 pixel
};

hb_unicode_general_category_t category(char32_t c) {
  return hb_unicode_general_category(hb_unicode_funcs_get_default(), c);
}

hb_script_t script(char32_t c) { return hb_unicode_script(hb_unicode_funcs_get_default(), c); }

// Marks, joiners and variation selectors stay with the character before them, whichever font has that.
bool continues(char32_t c) {
  switch (category(c)) {
    case HB_UNICODE_GENERAL_CATEGORY_NON_SPACING_MARK:
    case HB_UNICODE_GENERAL_CATEGORY_ENCLOSING_MARK:
    case HB_UNICODE_GENERAL_CATEGORY_SPACING_MARK:
    case HB_UNICODE_GENERAL_CATEGORY_FORMAT:
      return true;
    default:
      return false;
  }
}

bool is_digit(char32_t c) { return category(c) == HB_UNICODE_GENERAL_CATEGORY_DECIMAL_NUMBER; }

bool is_strong(hb_script_t script) {
  return script != HB_SCRIPT_COMMON && script != HB_SCRIPT_INHERITED && script != HB_SCRIPT_UNKNOWN;
}

bool is_backward(hb_script_t script) { return HB_DIRECTION_IS_BACKWARD(hb_script_get_horizontal_direction(script)); }

std::vector<char32_t> decode(std::string_view text) {
  const Buffer buffer(hb_buffer_create());
  const std::string_view head = text.substr(0, kMaxTextBytes);
  hb_buffer_add_utf8(buffer.get(), head.data(), static_cast<int>(head.size()), 0, static_cast<int>(head.size()));
  unsigned count = 0;
  const hb_glyph_info_t* infos = hb_buffer_get_glyph_infos(buffer.get(), &count);
  std::vector<char32_t> characters;
  for (unsigned i = 0; i < std::min<unsigned>(count, kMaxCharacters); ++i) {
    const char32_t c = infos[i].codepoint;
    const auto kind = category(c);
    const bool blank = kind == HB_UNICODE_GENERAL_CATEGORY_CONTROL ||
                       kind == HB_UNICODE_GENERAL_CATEGORY_LINE_SEPARATOR ||
                       kind == HB_UNICODE_GENERAL_CATEGORY_PARAGRAPH_SEPARATOR;
    characters.push_back(blank ? U' ' : c);
  }
  const auto is_space = [](char32_t c) { return c == U' '; };
  while (!characters.empty() && is_space(characters.back())) characters.pop_back();
  characters.erase(characters.begin(), std::find_if_not(characters.begin(), characters.end(), is_space));
  return characters;
}

// A character that belongs to no script of its own takes the one around it; between two writing directions, and at the
// ends, it takes the first of the text.
std::vector<hb_script_t> scripts_of(std::span<const char32_t> text) {
  const auto strong = std::find_if(text.begin(), text.end(), [](char32_t c) { return is_strong(script(c)); });
  const hb_script_t base = strong == text.end() ? HB_SCRIPT_LATIN : script(*strong);
  std::vector<hb_script_t> scripts(text.size());
  hb_script_t before = base;
  for (size_t i = 0; i < text.size();) {
    size_t next = i;
    while (next < text.size() && !is_strong(script(text[next]))) ++next;
    const hb_script_t after = next < text.size() ? script(text[next]) : base;
    const hb_script_t between = is_backward(before) == is_backward(after) ? before : base;
    for (; i < next; ++i) scripts[i] = is_digit(text[i]) ? before : between;
    if (next == text.size()) break;
    scripts[i++] = before = after;
  }
  return scripts;
}

// Level by level from the highest, stretches of that level or above are reversed (Unicode's rule L2).
void order_visually(std::vector<Run>& runs) {
  for (int level = 2; level >= 1; --level)
    for (auto begin = runs.begin(); begin != runs.end();) {
      const auto in_stretch = [&](const Run& run) { return run.level >= level; };
      begin = std::find_if(begin, runs.end(), in_stretch);
      const auto end = std::find_if_not(begin, runs.end(), in_stretch);
      std::reverse(begin, end);
      begin = end;
    }
}

void add_coverage(TextMask& mask, const FT_Bitmap& bitmap, int64_t left, int64_t top) {
  if (bitmap.pixel_mode != FT_PIXEL_MODE_GRAY) return;
  const int64_t rows = bitmap.rows, columns = bitmap.width;
  for (int64_t y = std::max<int64_t>(0, -top); y < std::min(rows, mask.height - top); ++y)
    for (int64_t x = std::max<int64_t>(0, -left); x < std::min(columns, mask.width - left); ++x) {
      uint8_t& to = mask.coverage[static_cast<size_t>((top + y) * mask.width + left + x)];
      to = static_cast<uint8_t>(std::min(255, to + bitmap.buffer[y * bitmap.pitch + x]));
    }
}

int64_t floor_pixels(int64_t units) { return units >> 6; }
int64_t ceil_pixels(int64_t units) { return (units + 63) >> 6; }

}  // namespace

struct TextRenderer::Fonts {
  Library library;
  std::vector<Font> open;
  std::vector<std::filesystem::path> waiting;  // not opened yet, the next one last
  std::unordered_map<char32_t, std::optional<size_t>> font_of;
  int64_t size = 0;

  void set_size(Font& font) const {
    FT_Set_Pixel_Sizes(font.face.get(), 0, static_cast<FT_UInt>(size));
    hb_ft_font_changed(font.shaper.get());
  }

  void set_size(int64_t wanted) {
    size = wanted;
    for (Font& font : open) set_size(font);
  }

  // In a collection (.ttc) the face for Simplified Chinese if there is one, else the first.
  Face open_face(const std::filesystem::path& path) const {
    FT_Face first = nullptr;
    if (FT_New_Face(library.get(), path.c_str(), 0, &first) != 0) return nullptr;
    Face chosen(first);
    for (FT_Long i = 1; i < std::min<FT_Long>(chosen->num_faces, 16); ++i) {
      FT_Face next = nullptr;
      if (FT_New_Face(library.get(), path.c_str(), i, &next) != 0) break;
      Face face(next);
      if (face->family_name != nullptr && std::string_view(face->family_name).ends_with(" CJK SC")) return face;
    }
    return chosen;
  }

  bool add(const std::filesystem::path& path) {
    Face face = open_face(path);
    if (!face || !FT_IS_SCALABLE(face.get())) return false;
    if (FT_Select_Charmap(face.get(), FT_ENCODING_UNICODE) != 0) return false;
    Shaper shaper(hb_ft_font_create_referenced(face.get()));
    hb_ft_font_set_load_flags(shaper.get(), kLoadFlags);
    open.push_back({std::move(face), std::move(shaper)});
    if (size > 0) set_size(open.back());
    return true;
  }

  bool open_next() {
    while (!waiting.empty() && open.size() < kMaxOpenFonts) {
      const std::filesystem::path path = std::move(waiting.back());
      waiting.pop_back();
      if (add(path)) return true;
    }
    return false;
  }

  // The first font with this character, opening further ones until one has it.
  std::optional<size_t> find(char32_t c) {
    const auto known = font_of.find(c);
    if (known != font_of.end()) return known->second;
    std::optional<size_t> found;
    for (size_t i = 0; !found && (i < open.size() || open_next()); ++i)
      if (FT_Get_Char_Index(open[i].face.get(), c) != 0) found = i;
    font_of.emplace(c, found);
    return found;
  }

  std::vector<Run> split(std::span<const char32_t> text) {
    const std::vector<hb_script_t> scripts = scripts_of(text);
    const bool base_backward = !text.empty() && is_backward(scripts.front());
    std::vector<Run> runs;
    for (size_t i = 0; i < text.size(); ++i) {
      if (!runs.empty() && continues(text[i])) {
        runs.back().end = i + 1;
        continue;
      }
      const bool backward = is_backward(scripts[i]);
      Run run{i, i + 1, find(text[i]).value_or(0), scripts[i], backward && !is_digit(text[i]), 0};
      run.level = run.right_to_left ? 1 : (backward || base_backward) ? 2 : 0;
      if (!runs.empty() && runs.back().font == run.font && runs.back().script == run.script &&
          runs.back().level == run.level)
        runs.back().end = run.end;
      else
        runs.push_back(run);
    }
    order_visually(runs);
    return runs;
  }

  Line shape(std::span<const char32_t> text) {
    Line line;
    for (const Run& run : split(text)) {
      const Buffer buffer(hb_buffer_create());
      hb_buffer_add_utf32(buffer.get(), reinterpret_cast<const uint32_t*>(text.data()), static_cast<int>(text.size()),
                          static_cast<unsigned>(run.begin), static_cast<int>(run.end - run.begin));
      hb_buffer_set_script(buffer.get(), run.script);
      hb_buffer_set_direction(buffer.get(), run.right_to_left ? HB_DIRECTION_RTL : HB_DIRECTION_LTR);
      // Not the user's locale: a picture must not depend on it. Picks Chinese forms of Han characters, too.
      hb_buffer_set_language(buffer.get(), hb_language_from_string(run.script == HB_SCRIPT_HAN ? "zh-hans" : "en", -1));
      hb_shape(open[run.font].shaper.get(), buffer.get(), nullptr, 0);
      unsigned count = 0;
      const hb_glyph_info_t* infos = hb_buffer_get_glyph_infos(buffer.get(), &count);
      const hb_glyph_position_t* positions = hb_buffer_get_glyph_positions(buffer.get(), &count);
      for (unsigned i = 0; i < count; ++i) {
        line.glyphs.push_back(
            {run.font, infos[i].codepoint, line.advance + positions[i].x_offset, positions[i].y_offset});
        line.advance += positions[i].x_advance;
      }
    }
    return line;
  }

  // As much of the text as fits into `width` pixels, with an ellipsis if that is not all.
  Line fit(const std::vector<char32_t>& text, int64_t width) {
    Line whole = shape(text);
    if (ceil_pixels(whole.advance) <= width) return whole;
    Line best;
    size_t low = 0, high = text.size();  // so many characters and an ellipsis fit, do not fit
    while (high - low > 1) {
      const size_t middle = low + (high - low) / 2;
      size_t kept = middle;  // never between a character and its marks
      while (kept > 0 && (continues(text[kept]) || text[kept - 1] == U' ')) --kept;
      std::vector<char32_t> shortened(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(kept));
      shortened.push_back(kEllipsis);
      Line line = shape(shortened);
      const bool fits = ceil_pixels(line.advance) <= width;
      if (fits && kept > 0) best = std::move(line);
      (fits || kept == 0 ? low : high) = middle;
    }
    return best;
  }

  void draw(const Line& line, int64_t left, int64_t base_line, TextMask& mask) {
    for (const Glyph& glyph : line.glyphs) {
      FT_Face face = open[glyph.font].face.get();
      if (FT_Load_Glyph(face, glyph.id, kLoadFlags) != 0) continue;
      if (face->glyph->format != FT_GLYPH_FORMAT_OUTLINE) continue;
      FT_Outline_Translate(&face->glyph->outline, glyph.x & 63, 0);
      if (FT_Render_Glyph(face->glyph, FT_RENDER_MODE_NORMAL) != 0) continue;
      add_coverage(mask, face->glyph->bitmap, left + floor_pixels(glyph.x) + face->glyph->bitmap_left,
                   base_line - floor_pixels(glyph.y + 32) - face->glyph->bitmap_top);
    }
  }
};

TextRenderer::TextRenderer(const std::optional<std::filesystem::path>& font,
                           const std::vector<std::filesystem::path>& folders)
    : fonts_(std::make_unique<Fonts>()) {
  FT_Library library = nullptr;
  VL2_CHECK(FT_Init_FreeType(&library) == 0);
  fonts_->library.reset(library);
  if (font && !fonts_->add(*font))
    fail(ErrorCode::kInvalidArgument,
         "{}: no font that can be drawn at any size; give a .ttf, .otf or .ttc file, or none to use the system's",
         font->string());
  fonts_->waiting = find_fonts(folders);
  std::reverse(fonts_->waiting.begin(), fonts_->waiting.end());
  if (fonts_->open.empty()) fonts_->open_next();
}

TextRenderer::~TextRenderer() = default;

bool TextRenderer::has_font() const { return !fonts_->open.empty(); }

TextMask TextRenderer::render(std::string_view text, int64_t size, int64_t padding, int64_t max_width) {
  VL2_CHECK(size > 0 && size <= 4096 && padding >= 0 && padding <= size, "text of {} pixels, padding {}", size,
            padding);
  TextMask mask;
  const std::vector<char32_t> characters = decode(text);
  if (!has_font() || characters.empty()) return mask;
  fonts_->set_size(size);
  for (const char32_t c : characters)
    if (!mask.missing_glyph && !continues(c) && !fonts_->find(c)) mask.missing_glyph = c;
  const Line line = fonts_->fit(characters, max_width - 2 * padding);
  if (line.glyphs.empty() || line.advance <= 0) return mask;
  const FT_Size_Metrics& metrics = fonts_->open.front().face->size->metrics;
  const int64_t margin = (size + 5) / 10;  // above and below: marks on capitals and Han characters fill the line
  const int64_t ascent = ceil_pixels(metrics.ascender) + margin;
  mask.width = ceil_pixels(line.advance) + 2 * padding;
  mask.height = std::clamp<int64_t>(ascent + ceil_pixels(-metrics.descender) + margin, 1, 4 * size);
  mask.coverage.assign(static_cast<size_t>(mask.width * mask.height), 0);
  fonts_->draw(line, padding, ascent, mask);
  return mask;
}

}  // namespace vl2
