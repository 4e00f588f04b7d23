// For tests only: PNG files of any mode written by hand, uncompressed, so that every sample and chunk is known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

inline std::string big_endian(uint64_t value, size_t bytes) {
  std::string out;
  for (size_t i = bytes; i-- > 0;) out += static_cast<char>(i < sizeof value ? value >> (8 * i) & 255 : 0);
  return out;
}

inline std::string png_chunk(std::string_view type, std::string_view body) {
  const std::string covered = std::string(type) + std::string(body);
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : covered) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return big_endian(body.size(), 4) + covered + big_endian(crc ^ 0xFFFFFFFF, 4);
}

// zlib stream of one stored block: at most 65535 bytes.
inline std::string zlib_stored(std::string_view raw) {
  uint32_t a = 1, b = 0;
  for (const char c : raw) {
    a = (a + static_cast<uint8_t>(c)) % 65521;
    b = (b + a) % 65521;
  }
  const auto size = static_cast<uint16_t>(raw.size());
  const auto little = [](uint16_t v) { return big_endian(static_cast<uint16_t>(v >> 8 | v << 8), 2); };
  return std::string("\x78\x01\x01", 3) + little(size) + little(static_cast<uint16_t>(~size)) + std::string(raw) +
         big_endian(b, 2) + big_endian(a, 2);
}

struct TestPng {
  size_t width = 1;
  size_t height = 1;
  int colour = 2;  // 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
  int depth = 8;
  bool interlaced = false;
  std::vector<uint32_t> samples;  // [height][width][channels()]
  std::string extra_chunks;       // before PLTE
  std::string palette;            // RGB RGB ...
  std::string transparency;       // body of tRNS; empty: none

  size_t channels() const { return colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1; }

  std::string signature_and_header() const {
    return "\x89PNG\r\n\x1A\n" +
           png_chunk("IHDR", big_endian(width, 4) + big_endian(height, 4) + static_cast<char>(depth) +
                                 static_cast<char>(colour) + std::string(2, '\0') + static_cast<char>(interlaced));
  }

  std::string bytes() const {
    std::string raw;
    if (interlaced) {
      constexpr size_t kPasses[][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                       {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
      for (const auto& [x0, y0, dx, dy] : kPasses) raw += rows(x0, y0, dx, dy);
    } else {
      raw = rows(0, 0, 1, 1);
    }
    return signature_and_header() + extra_chunks + (palette.empty() ? "" : png_chunk("PLTE", palette)) +
           (transparency.empty() ? "" : png_chunk("tRNS", transparency)) + png_chunk("IDAT", zlib_stored(raw)) +
           png_chunk("IEND", "");
  }

 private:
  std::string rows(size_t x0, size_t y0, size_t dx, size_t dy) const {
    std::string out;
    for (size_t y = y0; y < height && x0 < width; y += dy) {
      out += '\0';  // no filter
      uint32_t bits = 0;
      int num_bits = 0;
      for (size_t x = x0; x < width; x += dx) {
        for (size_t c = 0; c < channels(); ++c) {
          bits = bits << depth | samples.at((y * width + x) * channels() + c);
          for (num_bits += depth; num_bits >= 8; num_bits -= 8) out += static_cast<char>(bits >> (num_bits - 8) & 255);
        }
      }
      if (num_bits > 0) out += static_cast<char>(bits << (8 - num_bits) & 255);
    }
    return out;
  }
};

}  // namespace vl2
