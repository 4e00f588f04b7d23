// For tests only: a folder of training records and pictures, and samples made of them by the toy processor.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"
#include "core/image/encode.h"
#include "core/image/image.h"

namespace vl2::train {

// A picture of noise, so that two of them never have the same tiles.
inline Image test_picture(int64_t width, int64_t height, uint64_t seed) {
  Image image = make_image(width, height, 0, 0, 0);
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(splitmix64(seed + i) >> 56);
  return image;
}

inline void write_picture(const std::filesystem::path& path, int64_t width, int64_t height, uint64_t seed) {
  write_file_atomic(path, encode_png(test_picture(width, height, seed)));
}

inline nlohmann::json test_turn(const std::string& role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

inline void write_records(const std::filesystem::path& path, const std::vector<nlohmann::json>& records) {
  std::string lines;
  for (const nlohmann::json& record : records) lines += record.dump() + "\n";
  write_file_atomic(path, lines);
}

}  // namespace vl2::train
