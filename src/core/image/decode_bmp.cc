// Windows and OS/2 bitmaps: 1, 4, 8, 16, 24 and 32 bits, bit fields, RLE8 and RLE4, either row order.
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

enum Compression : uint32_t { kRaw = 0, kRle8 = 1, kRle4 = 2, kBitFields = 3 };

// Bounds-checked little-endian reads.
class Bytes {
 public:
  explicit Bytes(const DecodeRequest& request) : request_(request) {}

  size_t size() const { return request_.bytes.size(); }
  const uint8_t* at(size_t offset, size_t count) const {
    if (offset > size() || count > size() - offset) fail_corrupt(request_, "BMP", "it ends too early (truncated)");
    return request_.data() + offset;
  }
  uint8_t u8(size_t offset) const { return *at(offset, 1); }
  uint32_t u16(size_t offset) const {
    const uint8_t* p = at(offset, 2);
    return p[0] | static_cast<uint32_t>(p[1]) << 8;
  }
  uint32_t u32(size_t offset) const { return u16(offset) | u16(offset + 2) << 16; }

 private:
  const DecodeRequest& request_;
};

// One colour of a 16- or 32-bit pixel.
class Field {
 public:
  Field() = default;
  Field(const DecodeRequest& request, uint32_t mask) {
    if (mask == 0) return;
    shift_ = std::countr_zero(mask);
    max_ = mask >> shift_;
    if ((max_ & (max_ + 1)) != 0 || max_ > 255)
      fail(ErrorCode::kUnsupported, "{}: BMP bit field {:#010x}, expected at most 8 bits in a row; save it as PNG",
           request.where, mask);
  }
  uint8_t get(uint32_t pixel) const {
    return max_ == 0 ? 0 : static_cast<uint8_t>((pixel >> shift_ & max_) * 255 / max_);
  }
  bool present() const { return max_ != 0; }

 private:
  int shift_ = 0;
  uint32_t max_ = 0;
};

struct Bitmap {
  size_t width = 0;
  size_t height = 0;
  bool top_down = false;
  uint32_t bits = 0;
  uint32_t compression = kRaw;
  size_t pixels_at = 0;
  std::array<std::array<uint8_t, 3>, 256> palette{};
  std::array<Field, 4> fields{};  // red, green, blue, alpha
};

void read_palette(const Bytes& bytes, Bitmap& bitmap, size_t at, size_t colours, size_t entry_bytes) {
  for (size_t i = 0; i < bitmap.palette.size(); ++i) {
    if (i < colours) {
      const uint8_t* bgr = bytes.at(at + i * entry_bytes, 3);
      bitmap.palette[i] = {bgr[2], bgr[1], bgr[0]};
    } else {
      bitmap.palette[i].fill(static_cast<uint8_t>(i));  // entries the file leaves out: a grey ramp, as in Pillow
    }
  }
}

void read_bit_fields(const DecodeRequest& request, const Bytes& bytes, Bitmap& bitmap, size_t at, bool with_alpha) {
  std::array<uint32_t, 4> masks{};
  for (size_t i = 0; i < (with_alpha ? 4u : 3u); ++i) masks[i] = bytes.u32(at + 4 * i);
  if (bitmap.bits == 32 && masks == std::array<uint32_t, 4>{}) masks = {0xFF0000, 0xFF00, 0xFF, 0xFF000000};
  if (masks[0] == 0 || masks[1] == 0 || masks[2] == 0)
    fail_corrupt(request, "BMP", "a colour has no bits in its bit fields");
  for (size_t i = 0; i < 4; ++i) bitmap.fields[i] = Field(request, masks[i]);
}

Bitmap read_header(const DecodeRequest& request, const Bytes& bytes) {
  Bitmap bitmap;
  bitmap.pixels_at = bytes.u32(10);
  const uint32_t header = bytes.u32(14);
  size_t after_header = size_t{14} + header;
  size_t colours = 0;
  if (header == 12) {  // OS/2 1.x
    bitmap.width = bytes.u16(18);
    bitmap.height = bytes.u16(20);
    bitmap.bits = bytes.u16(24);
  } else if (header == 40 || header == 52 || header == 56 || header == 64 || header == 108 || header == 124) {
    const auto width = static_cast<int32_t>(bytes.u32(18));
    const int64_t height = static_cast<int32_t>(bytes.u32(22));
    if (width < 0) fail_corrupt(request, "BMP", fmt::format("width {}", width));
    bitmap.width = static_cast<size_t>(width);
    bitmap.height = static_cast<size_t>(height < 0 ? -height : height);
    bitmap.top_down = height < 0;
    bitmap.bits = bytes.u16(28);
    bitmap.compression = bytes.u32(30);
    colours = bytes.u32(46);
  } else {
    fail(ErrorCode::kUnsupported, "{}: BMP with a header of {} bytes, expected 12, 40, 52, 56, 64, 108 or 124",
         request.where, header);
  }
  check_decoded_size(request, "BMP", static_cast<int64_t>(bitmap.width), static_cast<int64_t>(bitmap.height));

  const uint32_t bits = bitmap.bits;
  const bool paletted = bits == 1 || bits == 4 || bits == 8;
  if (!paletted && bits != 16 && bits != 24 && bits != 32)
    fail(ErrorCode::kUnsupported, "{}: BMP of {} bits a pixel, expected 1, 4, 8, 16, 24 or 32", request.where, bits);
  const uint32_t compression = bitmap.compression;
  const bool can = compression == kRaw || (compression == kRle8 && bits == 8) || (compression == kRle4 && bits == 4) ||
                   (compression == kBitFields && !paletted && header != 64);
  if (!can)
    fail(ErrorCode::kUnsupported, "{}: BMP of {} bits with compression {}; save it as PNG", request.where, bits,
         compression);

  if (compression == kBitFields && header == 40) after_header += 12;  // the masks
  if (compression == kBitFields && bits != 24) {
    read_bit_fields(request, bytes, bitmap, 54, header >= 56);
  } else if (bits == 16) {
    bitmap.fields = {Field(request, 0x7C00), Field(request, 0x3E0), Field(request, 0x1F), Field()};
  } else if (bits == 32) {
    bitmap.fields = {Field(request, 0xFF0000), Field(request, 0xFF00), Field(request, 0xFF), Field()};
  }
  if (paletted) {
    const size_t entry_bytes = header == 12 ? 3 : 4;
    if (colours == 0) colours = size_t{1} << bits;
    if (colours > 65536) fail_corrupt(request, "BMP", fmt::format("palette of {} colours", colours));
    read_palette(bytes, bitmap, after_header, colours, entry_bytes);
    // An offset that points at the palette means the pixels behind it.
    if (bitmap.pixels_at == 0 || bitmap.pixels_at == after_header)
      bitmap.pixels_at = after_header + entry_bytes * colours;
  }
  if (bitmap.pixels_at == 0) bitmap.pixels_at = after_header;
  return bitmap;
}

// RLE to one palette index a pixel, rows in file order. What the file skips is index 0.
std::vector<uint8_t> expand_rle(const DecodeRequest& request, const Bytes& bytes, const Bitmap& bitmap) {
  std::vector<uint8_t> indices(bitmap.width * bitmap.height);
  const bool nibbles = bitmap.compression == kRle4;
  size_t at = bitmap.pixels_at, x = 0, y = 0;
  const auto put = [&](uint8_t index) {
    if (x < bitmap.width && y < bitmap.height) indices[y * bitmap.width + x] = index;
    ++x;
  };
  while (y < bitmap.height && !(y + 1 == bitmap.height && x >= bitmap.width)) {
    const uint8_t count = bytes.u8(at), value = bytes.u8(at + 1);
    at += 2;
    if (count > 0) {  // a run
      for (int i = 0; i < count; ++i) put(!nibbles ? value : i % 2 == 0 ? value >> 4 : value & 15);
    } else if (value == 0) {  // end of the row
      x = 0;
      ++y;
    } else if (value == 1) {  // end of the picture
      break;
    } else if (value == 2) {  // skip right and down
      x += bytes.u8(at);
      y += bytes.u8(at + 1);
      at += 2;
      if (x > bitmap.width) fail_corrupt(request, "BMP", "a run-length skip leaves the picture");
    } else {  // literal pixels, padded to 16 bits
      const size_t stored = nibbles ? (value + size_t{1}) / 2 : value;
      const uint8_t* literal = bytes.at(at, stored);
      for (size_t i = 0; i < value; ++i)
        put(!nibbles ? literal[i] : i % 2 == 0 ? literal[i / 2] >> 4 : literal[i / 2] & 15);
      at += stored + stored % 2;
    }
  }
  return indices;
}

uint32_t index_at(const uint8_t* row, size_t x, uint32_t bits) {
  if (bits == 8) return row[x];
  if (bits == 4) return x % 2 == 0 ? row[x / 2] >> 4 : row[x / 2] & 15;
  return row[x / 8] >> (7 - x % 8) & 1;
}

void convert_row(const Bitmap& bitmap, uint32_t bits, const uint8_t* row, uint8_t* rgb, uint8_t* alpha) {
  for (size_t x = 0; x < bitmap.width; ++x, rgb += 3) {
    if (bits <= 8) {
      std::memcpy(rgb, bitmap.palette[index_at(row, x, bits)].data(), 3);
    } else if (bits == 24) {
      rgb[0] = row[x * 3 + 2];
      rgb[1] = row[x * 3 + 1];
      rgb[2] = row[x * 3];
    } else {
      uint32_t pixel = 0;
      for (uint32_t i = 0; i < bits / 8; ++i) pixel |= static_cast<uint32_t>(row[x * (bits / 8) + i]) << (8 * i);
      for (size_t c = 0; c < 3; ++c) rgb[c] = bitmap.fields[c].get(pixel);
      if (alpha != nullptr) alpha[x] = bitmap.fields[3].get(pixel);
    }
  }
}

}  // namespace

DecodedImage decode_bmp(const DecodeRequest& request) {
  const Bytes bytes(request);
  const Bitmap bitmap = read_header(request, bytes);
  if (request.size_only) return {{static_cast<int64_t>(bitmap.width), static_cast<int64_t>(bitmap.height), {}}, {}, 1};
  const bool run_length = bitmap.compression == kRle8 || bitmap.compression == kRle4;
  const size_t used = (bitmap.width * bitmap.bits + 7) / 8;  // of each row
  const size_t stride = (bitmap.width * bitmap.bits + 31) / 32 * 4;
  std::vector<uint8_t> indices;
  if (run_length) {
    indices = expand_rle(request, bytes, bitmap);
  } else {
    bytes.at(bitmap.pixels_at, stride * (bitmap.height - 1) + used);  // all there, before anything is allocated
  }

  DecodedImage decoded;
  decoded.image = make_image(static_cast<int64_t>(bitmap.width), static_cast<int64_t>(bitmap.height), 0, 0, 0);
  const bool with_alpha = request.wants_alpha() && bitmap.fields[3].present();
  if (with_alpha) decoded.alpha.resize(bitmap.width * bitmap.height);
  for (size_t i = 0; i < bitmap.height; ++i) {
    const uint8_t* row = run_length ? indices.data() + i * bitmap.width : bytes.at(bitmap.pixels_at + i * stride, used);
    const size_t y = bitmap.top_down ? i : bitmap.height - 1 - i;
    convert_row(bitmap, run_length ? 8 : bitmap.bits, row, decoded.image.row(static_cast<int64_t>(y)),
                with_alpha ? decoded.alpha.data() + y * bitmap.width : nullptr);
  }
  return decoded;
}

}  // namespace vl2
