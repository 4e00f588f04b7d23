// The picture files of a training record: paths and data: URIs. Pure functions: any thread.
#pragma once

#include <string>

#include "core/image/decode.h"
#include "core/image/image.h"

namespace vl2::train {

// A path, or "data:image/png;base64,..." whose bytes are the file. Errors as probe_image() and load_image(), and
// kInvalidArgument for other data: URIs.
ImageSize probe_picture(const std::string& source, const DecodeOptions& options);
Image load_picture(const std::string& source, const DecodeOptions& options);

}  // namespace vl2::train
