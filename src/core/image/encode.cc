#include "core/image/encode.h"

#include <png.h>

#include <cstdio>
// jpeglib.h needs FILE and size_t declared before it.
#include <jpeglib.h>

#include <algorithm>
#include <cctype>
#include <csetjmp>
#include <cstdlib>

#include "core/base/error.h"
#include "core/base/file.h"

namespace vl2 {
namespace {

constexpr int64_t kMaxJpegSide = 65500;

// libjpeg reports errors by longjmp; encode() sets the target and holds no C++ object.
class JpegWriter {
 public:
  JpegWriter() {
    codec_.err = jpeg_std_error(&errors_);
    codec_.client_data = this;
    errors_.error_exit = [](j_common_ptr codec) {
      auto* self = static_cast<JpegWriter*>(codec->client_data);
      self->errors_.format_message(codec, self->text_);
      std::longjmp(self->jump_, 1);
    };
    errors_.output_message = [](j_common_ptr) {};
  }
  ~JpegWriter() {
    jpeg_destroy_compress(&codec_);
    std::free(bytes_);
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;

  bool encode(const uint8_t* rgb, JDIMENSION width, JDIMENSION height, int quality) {
    if (setjmp(jump_) != 0) return false;
    jpeg_create_compress(&codec_);
    jpeg_mem_dest(&codec_, &bytes_, &size_);
    codec_.image_width = width;
    codec_.image_height = height;
    codec_.input_components = 3;
    codec_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&codec_);
    jpeg_set_quality(&codec_, quality, TRUE);
    jpeg_start_compress(&codec_, TRUE);
    while (codec_.next_scanline < height) {
      // libjpeg never writes to its input, but says so nowhere in its types.
      JSAMPROW row = const_cast<uint8_t*>(rgb) + static_cast<size_t>(codec_.next_scanline) * width * 3;
      jpeg_write_scanlines(&codec_, &row, 1);
    }
    jpeg_finish_compress(&codec_);
    return true;
  }

  std::string bytes() const { return {reinterpret_cast<const char*>(bytes_), size_}; }
  const char* error_text() const { return text_; }

 private:
  jpeg_compress_struct codec_{};
  jpeg_error_mgr errors_{};
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
  char text_[JMSG_LENGTH_MAX] = {};
  std::jmp_buf jump_;
};

}  // namespace

std::string encode_png(const Image& image, PngEffort effort) {
  check_image(image);
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGB;
  if (effort == PngEffort::kFast) png.flags |= PNG_IMAGE_FLAG_FAST;
  if (image.width > INT32_MAX / 3 || image.rgb.size() > INT32_MAX)
    fail(ErrorCode::kInvalidArgument, "PNG of {} x {} pixels: at most 2 GiB can be written", image.width, image.height);
  std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(png), '\0');
  png_alloc_size_t size = bytes.size();
  if (png_image_write_to_memory(&png, bytes.data(), &size, 0, image.rgb.data(), 0, nullptr) == 0)
    fail(ErrorCode::kOutOfMemory, "PNG of {} x {} pixels: {}", image.width, image.height, png.message);
  bytes.resize(size);
  return bytes;
}

std::string encode_jpeg(const Image& image, int quality) {
  check_image(image);
  if (quality < 1 || quality > 100) fail(ErrorCode::kInvalidArgument, "JPEG quality {}, expected 1 to 100", quality);
  if (image.width > kMaxJpegSide || image.height > kMaxJpegSide)
    fail(ErrorCode::kInvalidArgument, "JPEG of {} x {} pixels: at most {} a side; write a PNG", image.width,
         image.height, kMaxJpegSide);
  JpegWriter writer;
  if (!writer.encode(image.rgb.data(), static_cast<JDIMENSION>(image.width), static_cast<JDIMENSION>(image.height),
                     quality))
    fail(ErrorCode::kOutOfMemory, "JPEG of {} x {} pixels: {}", image.width, image.height, writer.error_text());
  return writer.bytes();
}

void save_image(const std::filesystem::path& path, const Image& image) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (extension == ".png") {
    write_file_atomic(path, encode_png(image));
  } else if (extension == ".jpg" || extension == ".jpeg") {
    write_file_atomic(path, encode_jpeg(image));
  } else {
    fail(ErrorCode::kInvalidArgument, "{}: cannot tell the format from the name, expected .png, .jpg or .jpeg",
         path.string());
  }
}

}  // namespace vl2
