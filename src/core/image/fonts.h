// Which font files this machine has, in the order they should be asked for a character. No fontconfig: labels need one
// readable font and a fall-back for other scripts, which the usual folders answer. Pure functions: any thread.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

namespace vl2 {

// ~/.local/share/fonts, ~/.fonts, /usr/local/share/fonts, /usr/share/fonts: where Debian, Ubuntu and their users put
// fonts. Folders that do not exist may be among them.
std::vector<std::filesystem::path> font_folders();

// Every font file (.ttf .ttc .otf .otc) below the folders, best first: plain sans-serif faces by name, then fonts known
// for their Chinese, Japanese and Korean characters, then any other, bold and slanted ones last. The order depends on
// names alone, not on that of the directory. Unreadable folders are passed over; none is an error.
std::vector<std::filesystem::path> find_fonts(std::span<const std::filesystem::path> folders);

}  // namespace vl2
