#include "core/image/text_renderer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/image/fonts.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

// Tests look at DejaVu Sans alone, so that they say the same on every machine that has it.
std::optional<fs::path> dejavu() {
  for (const fs::path& font : find_fonts(font_folders()))
    if (font.filename() == "DejaVuSans.ttf") return font;
  return std::nullopt;
}

#define NEED_DEJAVU(font)                                                                         \
  const auto font = dejavu();                                                                     \
  if (!font) {                                                                                    \
    ASSERT_FALSE(in_ci()) << "CI must have DejaVu Sans";                                          \
    GTEST_SKIP() << "no DejaVuSans.ttf here: scripts/install_deps.sh installs fonts-dejavu-core"; \
  }                                                                                               \
  static_assert(true)

int64_t ink(const TextMask& mask) { return std::accumulate(mask.coverage.begin(), mask.coverage.end(), int64_t{0}); }

TEST(Fonts, ArePutInOrderByNameWithStyledOnesLast) {
  const TempFolder folder;
  for (const char* name :
       {"DejaVuSans-Bold.ttf", "a/NotoSansCJK-Regular.ttc", "zz.otf", "b/DejaVuSans.ttf", "Aa.TTF", "notes.txt"}) {
    fs::create_directories((folder / name).parent_path());
    write_file_atomic(folder / name, "x");
  }
  const std::vector<fs::path> folders = {folder.path(), folder / "absent"};
  std::vector<std::string> names;
  for (const fs::path& font : find_fonts(folders)) names.push_back(font.filename());
  EXPECT_EQ(names, (std::vector<std::string>{"DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Aa.TTF", "zz.otf",
                                             "DejaVuSans-Bold.ttf"}));
}

TEST(TextRenderer, WidthGrowsWithTheTextAndHeightDoesNot) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  const TextMask one = renderer.render("o", 20, 5, 1000), three = renderer.render("ooo", 20, 5, 1000);
  EXPECT_NEAR(static_cast<double>(three.width - 10), 3.0 * static_cast<double>(one.width - 10), 3.0);
  EXPECT_EQ(one.height, three.height);
  EXPECT_GT(ink(three), 2 * ink(one));
  EXPECT_EQ(renderer.render("Äg|", 20, 5, 1000).height, one.height);
  EXPECT_GT(renderer.render("o", 40, 5, 1000).height, one.height + 15);
}

TEST(TextRenderer, EdgesOfLettersAreSmooth) {
  NEED_DEJAVU(font);
  const TextMask mask = TextRenderer(font, {}).render("SO", 20, 0, 1000);
  EXPECT_GT(std::count_if(mask.coverage.begin(), mask.coverage.end(), [](uint8_t v) { return v > 20 && v < 235; }), 20);
  EXPECT_GT(std::count(mask.coverage.begin(), mask.coverage.end(), 255), 5);
}

TEST(TextRenderer, ACombiningMarkTakesNoRoomOfItsOwn) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  EXPECT_EQ(renderer.render("e\u0301", 20, 0, 1000).width, renderer.render("\u00e9", 20, 0, 1000).width);
}

TEST(TextRenderer, ArabicLettersJoinAndReadFromTheRight) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  // Joined forms are narrower than four letters that stand alone (U+200C keeps letters apart).
  EXPECT_LT(renderer.render("\u0628\u0628\u0628\u0628", 40, 0, 1000).width,
            renderer.render("\u0628\u200c\u0628\u200c\u0628\u200c\u0628", 40, 0, 1000).width);
  // Alef (a thin stroke) is typed first, beh (wide) second: drawn, alef is the right part.
  const TextMask mask = renderer.render("\u0627\u0628", 40, 0, 1000);
  const auto half_ink = [&](bool right) {
    int64_t rows_with_ink = 0;
    for (int64_t y = 0; y < mask.height; ++y) {
      const uint8_t* row = mask.coverage.data() + y * mask.width;
      const int64_t from = right ? mask.width * 3 / 4 : 0, to = right ? mask.width : mask.width * 3 / 4;
      rows_with_ink += std::any_of(row + from, row + to, [](uint8_t v) { return v > 128; }) ? 1 : 0;
    }
    return rows_with_ink;
  };
  EXPECT_GT(half_ink(true), half_ink(false));
}

TEST(TextRenderer, NumbersInsideRightToLeftTextKeepTheirOrder) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  const TextMask twelve = renderer.render("12", 40, 0, 1000), line = renderer.render("\u05d0 12", 40, 0, 1000);
  ASSERT_GT(line.width, twelve.width);
  // The number stands at the left end and looks as it does alone.
  for (int64_t y = 0; y < line.height; ++y)
    for (int64_t x = 0; x < twelve.width - 1; ++x)
      ASSERT_EQ(line.coverage[static_cast<size_t>(y * line.width + x)],
                twelve.coverage[static_cast<size_t>(y * twelve.width + x)])
          << x << "," << y;
}

TEST(TextRenderer, ASpaceBetweenTwoDirectionsStandsBetweenThem) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  const TextMask mask = renderer.render("\u05d0 l", 40, 0, 1000);
  const int64_t space = renderer.render("l l", 40, 0, 1000).width - renderer.render("ll", 40, 0, 1000).width;
  int64_t widest = 0, blank = 0;  // columns without ink
  for (int64_t x = 0; x < mask.width; ++x) {
    bool ink_here = false;
    for (int64_t y = 0; y < mask.height; ++y) ink_here |= mask.coverage[static_cast<size_t>(y * mask.width + x)] > 0;
    blank = ink_here ? 0 : blank + 1;
    widest = std::max(widest, x + 1 < mask.width ? blank : 0);
  }
  EXPECT_GE(widest, space);
}

TEST(TextRenderer, ACharacterThatNoFontHasIsReportedAndDrawnAsABox) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  const TextMask mask = renderer.render("a\u9e7f", 20, 0, 1000);
  ASSERT_TRUE(mask.missing_glyph.has_value());
  EXPECT_EQ(*mask.missing_glyph, U'\u9e7f');
  EXPECT_GT(mask.width, renderer.render("a", 20, 0, 1000).width + 5);
  EXPECT_GT(ink(mask), ink(renderer.render("a", 20, 0, 1000)) + 255 * 10);
  EXPECT_FALSE(renderer.render("giraffe", 20, 0, 1000).missing_glyph.has_value());
}

TEST(TextRenderer, AFontOfTheSystemFillsInForTheCallersFont) {
  NEED_DEJAVU(font);
  // Any font without Arabic will do as the caller's; DejaVu Sans has it.
  const fs::path serif = font->parent_path() / "DejaVuSerif.ttf";
  if (!fs::exists(serif)) GTEST_SKIP() << "no DejaVuSerif.ttf beside DejaVuSans.ttf";
  EXPECT_TRUE(TextRenderer(serif, {}).render("\u0628", 20, 0, 1000).missing_glyph.has_value());
  EXPECT_FALSE(TextRenderer(serif, {font->parent_path()}).render("\u0628", 20, 0, 1000).missing_glyph.has_value());
}

TEST(TextRenderer, CutsALineThatIsTooWide) {
  NEED_DEJAVU(font);
  TextRenderer renderer(font, {});
  const TextMask whole = renderer.render("a giraffe at the back", 20, 4, 1000);
  for (const int64_t width : {whole.width, whole.width - 1, int64_t{150}, int64_t{60}}) {
    const TextMask cut = renderer.render("a giraffe at the back", 20, 4, width);
    EXPECT_LE(cut.width, width);
    EXPECT_GT(cut.width, width - 35) << width;
  }
  for (const int64_t width : {12, 8, 1, 0, -5}) EXPECT_EQ(renderer.render("giraffe", 20, 4, width).width, 0) << width;
}

TEST(TextRenderer, WithoutFontsThereIsNothingToDraw) {
  TextRenderer renderer(std::nullopt, {});
  EXPECT_FALSE(renderer.has_font());
  EXPECT_EQ(renderer.render("giraffe", 20, 4, 1000).width, 0);
}

}  // namespace
}  // namespace vl2
