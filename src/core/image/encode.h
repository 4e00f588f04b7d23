// RGB pixels -> the bytes of a picture file. Pure functions apart from the files they write: any thread.
#pragma once

#include <filesystem>
#include <string>

#include "core/image/image.h"

namespace vl2 {

// How hard to look for a small file. kFast: a few times as quick, for drawings by the hundred thousand, whose flat
// colours are small either way.
enum class PngEffort { kDefault, kFast };

// 8-bit RGB PNG without metadata; decode_image() gives the same pixels back. kOutOfMemory, kInvalidArgument (too
// large).
std::string encode_png(const Image& image, PngEffort effort = PngEffort::kDefault);

// Baseline 4:2:0 JPEG; quality 1 to 100. kInvalidArgument above 65500 pixels a side.
std::string encode_jpeg(const Image& image, int quality = 85);

// By the extension: .png, .jpg or .jpeg, otherwise kInvalidArgument. The file appears whole or not at all; kIo.
void save_image(const std::filesystem::path& path, const Image& image);

}  // namespace vl2
