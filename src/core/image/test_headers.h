// For tests only: picture files that say how large they are, and hold no more than that.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/image/test_png.h"

namespace vl2 {

inline std::string little(uint64_t value, size_t bytes) {
  std::string out = big_endian(value, bytes);
  return {out.rbegin(), out.rend()};
}

struct HeaderFile {
  const char* name;
  std::string bytes;
};

// Files that consist of little more than a header with the given size.
inline std::vector<HeaderFile> header_files(uint32_t width, uint32_t height) {
  using std::string_literals::operator""s;
  TestPng png;
  png.width = width;
  png.height = height;
  const std::string sof = "\xFF\xC0\x00\x0B\x08"s + big_endian(height, 2) + big_endian(width, 2) + "\x01\x01\x11\x00"s;
  const std::string vp8x = "VP8X"s + little(10, 4) + little(0x02, 4) + little(width - 1, 3) + little(height - 1, 3);
  const std::string anim = "ANIM"s + little(6, 4) + little(0, 6);
  // One frame of 1 x 1 so that the container is whole.
  const std::string frame = "ANMF"s + little(16 + 8 + 18, 4) + little(0, 12) + little(100, 4);
  return {
      {"PNG", png.signature_and_header() + png_chunk("IDAT", "") + png_chunk("IEND", "")},
      {"JPEG", "\xFF\xD8"s + sof + "\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00"s},
      {"BMP", "BM"s + little(54, 4) + little(0, 4) + little(54, 4) + little(40, 4) + little(width, 4) +
                  little(height, 4) + little(1, 2) + little(24, 2) + little(0, 24)},
      {"GIF", "GIF89a"s + little(width, 2) + little(height, 2) + little(0, 3) + "," + little(0, 4) + little(width, 2) +
                  little(height, 2) + little(0, 1) + "\x02\x01\x44\x00;"s},
      {"WebP", "RIFF"s + little(4 + vp8x.size() + anim.size() + frame.size() + 26, 4) + "WEBP" + vp8x + anim + frame +
                   "VP8L" + little(17, 4) + std::string(18, '\0')},
  };
}

}  // namespace vl2
