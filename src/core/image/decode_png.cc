// PNG by libpng, which only inflates, unfilters and unpacks: samples become RGB here, so that they become what Pillow
// makes of them. Gamma, colour profiles and text are never looked at.
//
// libpng reports errors by longjmp. Every call into it sits in a function of PngReader that sets its own jump target
// and holds no C++ object, so nothing with a destructor is ever jumped over.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

class PngReader {
 public:
  explicit PngReader(std::span<const std::byte> bytes) : rest_(bytes) {}
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }  // accepts null pointers
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  // Everything before the first row. All functions return false on failure; error() says why.
  bool read_header() {
    if (setjmp(jump_) != 0) return false;
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, [](png_structp, png_const_charp) {});
    if (png_ == nullptr) return set_error("out of memory");
    info_ = png_create_info_struct(png_);
    if (info_ == nullptr) return set_error("out of memory");
    png_set_read_fn(png_, this, read_bytes);
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);             // the caller checks the size
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // nor keep text, profiles, ...
    png_read_info(png_, info_);
    return true;
  }

  bool start_rows() {
    if (setjmp(jump_) != 0) return false;
    png_set_packing(png_);  // 1, 2 and 4 bits: one sample a byte, values as they are
    png_start_read_image(png_);
    return true;
  }

  bool read_row(uint8_t* row) {
    if (setjmp(jump_) != 0) return false;
    png_read_row(png_, row, nullptr);
    return true;
  }

  png_structp png() const { return png_; }
  png_infop info() const { return info_; }
  const char* error() const { return error_; }

 private:
  bool set_error(const char* text) {
    std::strncpy(error_, text, sizeof(error_) - 1);
    return false;
  }

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    self->set_error(text);
    std::longjmp(self->jump_, 1);
  }

  static void read_bytes(png_structp png, png_bytep out, size_t count) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self->rest_.size()) png_error(png, "it ends in the middle of the picture (truncated)");
    std::memcpy(out, self->rest_.data(), count);
    self->rest_ = self->rest_.subspan(count);
  }

  std::span<const std::byte> rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char error_[256] = {};
  std::jmp_buf jump_;
};

// Turns rows of samples into RGB and alpha.
class RowConverter {
 public:
  RowConverter(png_structp png, png_infop info)
      : colour_(png_get_color_type(png, info)), depth_(png_get_bit_depth(png, info)) {
    png_bytep alphas = nullptr;
    int num_alphas = 0;
    png_color_16p key = nullptr;
    if (png_get_tRNS(png, info, &alphas, &num_alphas, &key) == 0) num_alphas = 0, key = nullptr;
    if (colour_ == PNG_COLOR_TYPE_PALETTE) {
      for (size_t i = 0; i < palette_.size(); ++i) {  // entries the file leaves out: a grey ramp
        palette_[i].fill(static_cast<uint8_t>(i));
        palette_alpha_[i] = 255;
      }
      png_colorp entries = nullptr;
      int count = 0;
      png_get_PLTE(png, info, &entries, &count);
      for (int i = 0; i < std::min(count, 256); ++i) palette_[i] = {entries[i].red, entries[i].green, entries[i].blue};
      for (int i = 0; i < std::min(num_alphas, 256); ++i) palette_alpha_[i] = alphas[i];
      has_alpha_ = num_alphas > 0;
    } else if ((colour_ & PNG_COLOR_MASK_ALPHA) == 0 && key != nullptr) {
      if (colour_ == PNG_COLOR_TYPE_GRAY) {
        key_ = {key->gray, key->gray, key->gray};
      } else {
        key_ = {key->red, key->green, key->blue};
      }
      has_alpha_ = true;
    } else {
      has_alpha_ = (colour_ & PNG_COLOR_MASK_ALPHA) != 0;
    }
  }

  bool has_alpha() const { return has_alpha_; }
  size_t bytes_per_pixel() const {
    const bool grey_or_index = colour_ == PNG_COLOR_TYPE_GRAY || colour_ == PNG_COLOR_TYPE_PALETTE;
    const size_t channels = (grey_or_index                    ? 1
                             : colour_ & PNG_COLOR_MASK_COLOR ? 3
                                                              : 1) +
                            (colour_ & PNG_COLOR_MASK_ALPHA ? 1 : 0);
    return channels * (depth_ == 16 ? 2 : 1);
  }

  // Pixel x goes to rgb + x * step * 3 and, unless null, alpha + x * step.
  void convert(const uint8_t* in, size_t width, size_t step, uint8_t* rgb, uint8_t* alpha) const {
    const size_t in_step = bytes_per_pixel();
    for (size_t x = 0; x < width; ++x, in += in_step, rgb += step * 3) {
      convert_pixel(in, rgb);
      if (alpha != nullptr) alpha[x * step] = alpha_of(in);
    }
  }

 private:
  void convert_pixel(const uint8_t* in, uint8_t* rgb) const {
    const size_t sample = depth_ == 16 ? 2 : 1;
    switch (colour_) {
      case PNG_COLOR_TYPE_PALETTE:
        std::memcpy(rgb, palette_[in[0]].data(), 3);
        return;
      case PNG_COLOR_TYPE_GRAY:  // 16 bits are clipped, not scaled: Pillow's mode "I"
        std::memset(rgb, depth_ == 16 ? (in[0] != 0 ? 255 : in[1]) : in[0] * 255 / ((1 << depth_) - 1), 3);
        return;
      case PNG_COLOR_TYPE_GRAY_ALPHA:
        std::memset(rgb, in[0], 3);
        return;
      default:  // RGB, RGBA: the high byte of 16-bit samples
        for (size_t c = 0; c < 3; ++c) rgb[c] = in[c * sample];
    }
  }

  uint8_t alpha_of(const uint8_t* in) const {
    const size_t sample = depth_ == 16 ? 2 : 1;
    if (colour_ == PNG_COLOR_TYPE_PALETTE) return palette_alpha_[in[0]];
    if (colour_ == PNG_COLOR_TYPE_GRAY_ALPHA) return in[sample];
    if (colour_ == PNG_COLOR_TYPE_RGB_ALPHA) return in[3 * sample];
    const size_t channels = colour_ == PNG_COLOR_TYPE_GRAY ? 1 : 3;
    for (size_t c = 0; c < channels; ++c) {
      const int value = sample == 2 ? in[c * 2] << 8 | in[c * 2 + 1] : in[c];
      if (value != key_[c]) return 255;
    }
    return 0;
  }

  int colour_;
  int depth_;
  bool has_alpha_ = false;
  std::array<int, 3> key_{};  // the one transparent colour
  std::array<std::array<uint8_t, 3>, 256> palette_{};
  std::array<uint8_t, 256> palette_alpha_{};
};

void check_ok(const DecodeRequest& request, const PngReader& reader, bool ok) {
  if (ok) return;
  if (std::strstr(reader.error(), "emory") != nullptr)
    fail(ErrorCode::kOutOfMemory, "{}: not enough memory to decode this PNG; scale the picture down", request.where);
  fail_corrupt(request, "PNG", reader.error());
}

}  // namespace

DecodedImage decode_png(const DecodeRequest& request) {
  PngReader reader(request.bytes);
  check_ok(request, reader, reader.read_header());
  const size_t width = png_get_image_width(reader.png(), reader.info());
  const size_t height = png_get_image_height(reader.png(), reader.info());
  check_decoded_size(request, "PNG", static_cast<int64_t>(width), static_cast<int64_t>(height));
  if (request.size_only) return {{static_cast<int64_t>(width), static_cast<int64_t>(height), {}}, {}, 1};

  const RowConverter converter(reader.png(), reader.info());
  const bool interlaced = png_get_interlace_type(reader.png(), reader.info()) != PNG_INTERLACE_NONE;
  const bool with_alpha = request.wants_alpha() && converter.has_alpha();
  check_ok(request, reader, reader.start_rows());

  DecodedImage decoded{{static_cast<int64_t>(width), static_cast<int64_t>(height), {}}, {}, 1};
  std::vector<uint8_t>& rgb = decoded.image.rgb;
  std::vector<uint8_t>& alpha = decoded.alpha;
  rgb.reserve(width * height * 3);
  if (with_alpha) alpha.reserve(width * height);
  std::vector<uint8_t> row(width * converter.bytes_per_pixel());
  for (size_t pass = 0; pass < (interlaced ? PNG_INTERLACE_ADAM7_PASSES : 1); ++pass) {
    const size_t x0 = interlaced ? PNG_PASS_START_COL(pass) : 0, y0 = interlaced ? PNG_PASS_START_ROW(pass) : 0;
    const size_t dx = interlaced ? size_t{1} << PNG_PASS_COL_SHIFT(pass) : 1;
    const size_t dy = interlaced ? size_t{1} << PNG_PASS_ROW_SHIFT(pass) : 1;
    if (x0 >= width) continue;  // libpng skips empty passes as well
    for (size_t y = y0; y < height; y += dy) {
      check_ok(request, reader, reader.read_row(row.data()));
      if (rgb.size() < (y + 1) * width * 3) {
        rgb.resize((y + 1) * width * 3);
        if (with_alpha) alpha.resize((y + 1) * width);
      }
      converter.convert(row.data(), (width - x0 + dx - 1) / dx, dx, rgb.data() + (y * width + x0) * 3,
                        with_alpha ? alpha.data() + y * width + x0 : nullptr);
    }
  }
  return decoded;
}

}  // namespace vl2
