#include "core/image/fonts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

namespace vl2 {
namespace {

namespace fs = std::filesystem;

// File names without extension, in lower case. The first that is installed draws everything it has.
constexpr std::array<std::string_view, 24> kPreferred = {
    "dejavusans", "notosans-regular", "liberationsans-regular", "ubuntu-r", "freesans", "opensans-regular",
    // Simplified Chinese shapes first: the model's second language.
    "notosanssc-regular", "notosanscjksc-regular", "notosanscjk-regular", "sourcehansanssc-regular",
    "sourcehansans-regular", "wqy-microhei", "wqy-zenhei", "droidsansfallbackfull", "droidsansfallback", "uming",
    "ukai", "notosansjp-regular", "ipagp", "ipag", "takaopgothic", "nanumgothic", "unbatang", "unifont"};
constexpr std::array<std::string_view, 12> kStyled = {"bold",  "italic", "oblique", "light",     "thin", "black",
                                                      "heavy", "mono",   "serif",   "condensed", "math", "emoji"};
constexpr size_t kMaxEntries = 50'000;  // of folders and files: a link to the root must not make us walk the disk

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool is_font(const fs::path& path) {
  const std::string extension = lower(path.extension().string());
  return extension == ".ttf" || extension == ".ttc" || extension == ".otf" || extension == ".otc";
}

size_t rank_of(const std::string& stem) {
  const auto found = std::find(kPreferred.begin(), kPreferred.end(), stem);
  if (found != kPreferred.end()) return static_cast<size_t>(found - kPreferred.begin());
  const bool styled = std::any_of(kStyled.begin(), kStyled.end(),
                                  [&](std::string_view word) { return stem.find(word) != std::string::npos; });
  return kPreferred.size() + (styled ? 1 : 0);
}

}  // namespace

std::vector<fs::path> font_folders() {
  std::vector<fs::path> folders;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    folders.push_back(fs::path(home) / ".local/share/fonts");
    folders.push_back(fs::path(home) / ".fonts");
  }
  folders.emplace_back("/usr/local/share/fonts");
  folders.emplace_back("/usr/share/fonts");
  return folders;
}

std::vector<fs::path> find_fonts(std::span<const fs::path> folders) {
  struct Found {
    size_t rank;
    std::string stem;
    fs::path path;
  };
  std::vector<Found> found;
  size_t entries = 0;
  for (const fs::path& folder : folders) {
    std::error_code error;
    fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error);
    while (!error && at != fs::end(at) && ++entries <= kMaxEntries) {
      std::error_code ignored;
      if (is_font(at->path()) && at->is_regular_file(ignored)) {
        std::string stem = lower(at->path().stem().string());
        const size_t rank = rank_of(stem);
        found.push_back({rank, std::move(stem), at->path()});
      }
      at.increment(error);
    }
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tie(a.rank, a.stem, a.path) < std::tie(b.rank, b.stem, b.path);
  });
  std::vector<fs::path> paths;
  paths.reserve(found.size());
  for (Found& font : found) paths.push_back(std::move(font.path));
  return paths;
}

}  // namespace vl2
