#include "data/synth/type_faces.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/base/error.h"
#include "core/image/fonts.h"

namespace vl2::data::synth {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 15> kTrainFaces = {"dejavusans",
                                                          "dejavusans-bold",
                                                          "dejavusans-oblique",
                                                          "dejavusanscondensed",
                                                          "dejavusansmono",
                                                          "dejavuserif",
                                                          "dejavuserif-italic",
                                                          "liberationsans-regular",
                                                          "liberationsans-bold",
                                                          "liberationserif-regular",
                                                          "liberationserif-italic",
                                                          "liberationmono-regular",
                                                          "freesans",
                                                          "freesansbold",
                                                          "freeserif"};
constexpr std::array<std::string_view, 2> kTestFaces = {"dejavuserif-bold", "dejavusansmono-bold"};
constexpr std::array<std::string_view, 6> kChineseFaces = {"wqy-microhei",          "notosanscjk-regular",
                                                           "notosanscjksc-regular", "notosanssc-regular",
                                                           "droidsansfallbackfull", "droidsansfallback"};

std::string lower_stem(const fs::path& path) {
  std::string stem = path.stem().string();
  for (char& c : stem) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return stem;
}

std::vector<FontFile> find_named(std::span<const std::string_view> names, std::span<const fs::path> folders) {
  std::vector<FontFile> faces;
  const std::vector<fs::path> installed = find_fonts(folders);
  for (const std::string_view name : names) {
    const auto found = std::find_if(installed.begin(), installed.end(),
                                    [&](const fs::path& path) { return lower_stem(path) == name; });
    if (found != installed.end()) faces.push_back({std::string(name), *found});
  }
  return faces;
}

TextMask render_whole(TextRenderer& renderer, std::string_view text, int64_t size, int64_t max_width) {
  // Far more than any label needs, so that the renderer never shortens it.
  TextMask mask = renderer.render(text, size, 0, int64_t{1} << 16);
  return mask.width > max_width || mask.missing_glyph ? TextMask{} : mask;
}

}  // namespace

std::vector<FontFile> find_faces(Split split, std::span<const fs::path> folders) {
  if (split == Split::kTrain) return find_named(kTrainFaces, folders);
  return find_named(kTestFaces, folders);
}

std::vector<FontFile> find_chinese_face(std::span<const fs::path> folders) {
  std::vector<FontFile> faces = find_named(kChineseFaces, folders);
  if (faces.size() > 1) faces.resize(1);
  return faces;
}

TypeFaces::TypeFaces(Split split, std::span<const fs::path> folders) : files_(find_faces(split, folders)) {
  if (files_.empty())
    fail(ErrorCode::kNotFound, "none of the fonts that the {} set is drawn in is installed ({}, ...); {}",
         split == Split::kTrain ? "train" : "test", split == Split::kTrain ? kTrainFaces[0] : kTestFaces[0],
         "install fonts-dejavu-core, or name a folder with them (--fonts)");
  for (const FontFile& file : files_)
    faces_.push_back(std::make_unique<TextRenderer>(file.path, std::vector<fs::path>{}));
  for (FontFile& file : find_chinese_face(folders)) {
    chinese_ = std::make_unique<TextRenderer>(file.path, std::vector<fs::path>{});
    files_.push_back(std::move(file));
  }
}

std::vector<std::string> TypeFaces::names() const {
  std::vector<std::string> names;
  for (const FontFile& file : files_) names.push_back(file.name);
  return names;
}

TextMask TypeFaces::render(size_t face, std::string_view text, int64_t size, int64_t max_width) {
  return render_whole(*faces_[face], text, size, max_width);
}

TextMask TypeFaces::render_chinese(std::string_view text, int64_t size, int64_t max_width) {
  VL2_CHECK(chinese_ != nullptr);
  return render_whole(*chinese_, text, size, max_width);
}

}  // namespace vl2::data::synth
