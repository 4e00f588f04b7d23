// Pillow's bicubic resize, bit for bit (8 bits a channel, antialiased when shrinking): spec/model.md 2.5.
#pragma once

#include <cstdint>

#include "core/image/image.h"

namespace vl2 {

// Stretches the whole picture to width x height (both > 0). Pure function: any thread.
Image resize_bicubic(const Image& image, int64_t width, int64_t height);

}  // namespace vl2
