// GIF by giflib: the first frame on its canvas. Around a smaller frame the canvas shows the transparent colour's
// palette entry, or entry 0: what Pillow's convert("RGB") makes of it.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

// Owns giflib's handle; reads from memory.
class GifReader {
 public:
  explicit GifReader(const DecodeRequest& request) : request_(request), rest_(request.bytes) {
    int error = 0;
    gif_ = DGifOpen(&rest_, read_bytes, &error);
    if (gif_ == nullptr) fail_gif(error);
  }
  ~GifReader() { DGifCloseFile(gif_, nullptr); }
  GifReader(const GifReader&) = delete;
  GifReader& operator=(const GifReader&) = delete;

  const GifFileType& file() const { return *gif_; }
  std::optional<int> transparent() const { return transparent_; }

  // Skips to the first picture; its place and size are then in file().Image.
  void find_frame() {
    while (true) {
      GifRecordType record = UNDEFINED_RECORD_TYPE;
      check(DGifGetRecordType(gif_, &record));
      if (record == IMAGE_DESC_RECORD_TYPE) {
        check(DGifGetImageDesc(gif_));
        return;
      }
      if (record != EXTENSION_RECORD_TYPE) fail_corrupt(request_, "GIF", "it holds no picture");
      int code = 0;
      GifByteType* block = nullptr;  // a length byte, then that many bytes; null after the last
      for (check(DGifGetExtension(gif_, &code, &block)); block != nullptr; check(DGifGetExtensionNext(gif_, &block))) {
        GraphicsControlBlock control;
        if (code == GRAPHICS_EXT_FUNC_CODE && DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK &&
            control.TransparentColor != NO_TRANSPARENT_COLOR)
          transparent_ = control.TransparentColor;
      }
    }
  }

  void read_row(uint8_t* row, int width) { check(DGifGetLine(gif_, row, width)); }

 private:
  void check(int status) const {
    if (status != GIF_OK) fail_gif(gif_->Error);
  }

  [[noreturn]] void fail_gif(int error) const {
    if (error == D_GIF_ERR_NOT_ENOUGH_MEM)
      fail(ErrorCode::kOutOfMemory, "{}: not enough memory to decode this GIF", request_.where);
    const char* text = GifErrorString(error);
    fail_corrupt(request_, "GIF",
                 rest_.empty()     ? "it ends in the middle of the picture (truncated)"
                 : text == nullptr ? "unreadable"
                                   : text);
  }

  static int read_bytes(GifFileType* gif, GifByteType* out, int count) {
    auto& rest = *static_cast<std::span<const std::byte>*>(gif->UserData);
    const size_t n = std::min(rest.size(), static_cast<size_t>(std::max(count, 0)));
    std::memcpy(out, rest.data(), n);
    rest = rest.subspan(n);
    return static_cast<int>(n);
  }

  const DecodeRequest& request_;
  std::span<const std::byte> rest_;
  GifFileType* gif_ = nullptr;
  std::optional<int> transparent_;
};

using Palette = std::array<std::array<uint8_t, 3>, 256>;

Palette read_palette(const ColorMapObject* colours) {
  Palette palette;
  for (size_t i = 0; i < palette.size(); ++i) {
    palette[i].fill(static_cast<uint8_t>(i));  // no palette, or a short one: a grey ramp
    if (colours != nullptr && static_cast<int>(i) < colours->ColorCount)
      palette[i] = {colours->Colors[i].Red, colours->Colors[i].Green, colours->Colors[i].Blue};
  }
  return palette;
}

// The order in which an interlaced frame stores its rows.
std::vector<size_t> row_order(size_t height, bool interlaced) {
  std::vector<size_t> rows;
  rows.reserve(height);
  if (!interlaced) {
    for (size_t y = 0; y < height; ++y) rows.push_back(y);
    return rows;
  }
  constexpr size_t kPasses[][2] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};  // first row, step
  for (const auto& [first, step] : kPasses)
    for (size_t y = first; y < height; y += step) rows.push_back(y);
  return rows;
}

}  // namespace

DecodedImage decode_gif(const DecodeRequest& request) {
  GifReader reader(request);
  reader.find_frame();
  const GifFileType& gif = reader.file();
  const GifImageDesc& frame = gif.Image;
  if (frame.Left < 0 || frame.Top < 0 || frame.Width <= 0 || frame.Height <= 0)
    fail_corrupt(request, "GIF", fmt::format("a frame of {} x {} pixels", frame.Width, frame.Height));
  const size_t left = static_cast<size_t>(frame.Left), top = static_cast<size_t>(frame.Top);
  const size_t frame_width = static_cast<size_t>(frame.Width), frame_height = static_cast<size_t>(frame.Height);
  // A frame that sticks out enlarges the canvas.
  const size_t width = std::max(left + frame_width, static_cast<size_t>(std::max(gif.SWidth, 0)));
  const size_t height = std::max(top + frame_height, static_cast<size_t>(std::max(gif.SHeight, 0)));
  check_decoded_size(request, "GIF", static_cast<int64_t>(width), static_cast<int64_t>(height));
  if (request.size_only) return {{static_cast<int64_t>(width), static_cast<int64_t>(height), {}}, {}, 1};

  const Palette palette = read_palette(frame.ColorMap != nullptr ? frame.ColorMap : gif.SColorMap);
  const auto outside = palette[static_cast<size_t>(reader.transparent().value_or(0))];
  DecodedImage decoded{
      make_image(static_cast<int64_t>(width), static_cast<int64_t>(height), outside[0], outside[1], outside[2]), {}, 1};
  const bool with_alpha = request.wants_alpha() && reader.transparent().has_value();
  if (with_alpha) decoded.alpha.resize(width * height);  // outside the frame: transparent
  std::vector<uint8_t> row(frame_width);
  for (const size_t y : row_order(frame_height, frame.Interlace)) {
    reader.read_row(row.data(), frame.Width);
    const size_t start = (top + y) * width + left;
    for (size_t x = 0; x < frame_width; ++x) {
      std::memcpy(decoded.image.rgb.data() + (start + x) * 3, palette[row[x]].data(), 3);
      if (with_alpha) decoded.alpha[start + x] = row[x] == *reader.transparent() ? 0 : 255;
    }
  }
  return decoded;
}

}  // namespace vl2
