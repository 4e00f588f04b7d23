// JPEG by libjpeg-turbo with the settings Pillow leaves at their defaults: slow integer DCT, fancy upsampling.
//
// libjpeg reports errors by longjmp. Every call into it sits in a function of JpegReader that sets its own jump target
// and holds no C++ object, so nothing with a destructor is ever jumped over.
#include <cstdio>
// jpeglib.h needs FILE and size_t declared before it.
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "core/base/error.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

// A file of a few kilobytes may hold thousands of scans of a huge picture, each as costly as decoding it once.
constexpr int kMaxScans = 500;
constexpr JDIMENSION kRowsPerCall = 16;

class JpegReader {
 public:
  enum class Status { kOk, kSuspended, kTooManyScans, kError };

  JpegReader(const uint8_t* data, size_t size) {
    codec_.err = jpeg_std_error(&errors_);
    codec_.client_data = this;
    errors_.error_exit = on_error;
    errors_.output_message = [](j_common_ptr) {};
    source_.next_input_byte = data;
    source_.bytes_in_buffer = size;
    source_.init_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = [](j_decompress_ptr) -> boolean { return FALSE; };  // all there is was given at once
    source_.skip_input_data = skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.term_source = [](j_decompress_ptr) {};
    progress_.progress_monitor = watch_scans;
  }
  ~JpegReader() { jpeg_destroy_decompress(&codec_); }  // frees memory only, and accepts a struct that was never created
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  Status read_header() {
    if (setjmp(jump_) != 0) return failure_;
    jpeg_create_decompress(&codec_);
    codec_.src = &source_;
    codec_.progress = &progress_;
    return jpeg_read_header(&codec_, TRUE) == JPEG_HEADER_OK ? Status::kOk : Status::kSuspended;
  }

  Status start(J_COLOR_SPACE colours) {
    if (setjmp(jump_) != 0) return failure_;
    codec_.out_color_space = colours;
    codec_.dct_method = JDCT_ISLOW;
    codec_.do_fancy_upsampling = TRUE;
    return jpeg_start_decompress(&codec_) ? Status::kOk : Status::kSuspended;
  }

  // Reads up to `count` rows; *got is how many there were.
  Status read_rows(JSAMPARRAY rows, JDIMENSION count, JDIMENSION* got) {
    *got = 0;
    if (setjmp(jump_) != 0) return failure_;
    *got = jpeg_read_scanlines(&codec_, rows, count);
    return *got > 0 ? Status::kOk : Status::kSuspended;
  }

  const jpeg_decompress_struct& codec() const { return codec_; }
  int error_code() const { return errors_.msg_code; }
  const char* error_text() const { return text_; }

 private:
  static void skip(j_decompress_ptr codec, long count) {
    if (count <= 0) return;
    const size_t n = std::min(static_cast<size_t>(count), codec->src->bytes_in_buffer);
    codec->src->next_input_byte += n;
    codec->src->bytes_in_buffer -= n;
  }

  [[noreturn]] static void on_error(j_common_ptr codec) {
    auto* self = static_cast<JpegReader*>(codec->client_data);
    self->errors_.format_message(codec, self->text_);
    self->failure_ = Status::kError;
    std::longjmp(self->jump_, 1);
  }

  static void watch_scans(j_common_ptr codec) {
    auto* self = static_cast<JpegReader*>(codec->client_data);
    if (self->codec_.input_scan_number <= kMaxScans) return;
    self->failure_ = Status::kTooManyScans;
    std::longjmp(self->jump_, 1);
  }

  jpeg_decompress_struct codec_{};
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  Status failure_ = Status::kError;
  char text_[JMSG_LENGTH_MAX] = {};
  std::jmp_buf jump_;
};

void check_status(const DecodeRequest& request, const JpegReader& reader, JpegReader::Status status) {
  switch (status) {
    case JpegReader::Status::kOk:
      return;
    case JpegReader::Status::kSuspended:
      fail_corrupt(request, "JPEG", "it ends in the middle of the picture (truncated)");
    case JpegReader::Status::kTooManyScans:
      fail_corrupt(request, "JPEG", fmt::format("more than {} scans", kMaxScans));
    case JpegReader::Status::kError:
      break;
  }
  switch (reader.error_code()) {
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_ARITH_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
      fail(ErrorCode::kUnsupported, "{}: a kind of JPEG we cannot read ({}); save it as a baseline JPEG or PNG",
           request.where, reader.error_text());
    case JERR_OUT_OF_MEMORY:
      fail(ErrorCode::kOutOfMemory, "{}: not enough memory to decode this JPEG of {} x {}; scale the picture down",
           request.where, reader.codec().image_width, reader.codec().image_height);
    default:
      fail_corrupt(request, "JPEG", reader.error_text());
  }
}

// Pillow reads every four-channel JPEG by Adobe's convention (255 is no ink), then converts plainly:
// R = (255 - K) - (255 - K) * C / 255 rounded, and so on, with true C and K.
void cmyk_to_rgb(const uint8_t* in, size_t width, uint8_t* out) {
  for (size_t x = 0; x < width; ++x, in += 4) {
    const int white = in[3];  // 255 - K
    for (size_t c = 0; c < 3; ++c) {
      const int product = (255 - in[c]) * white + 128;
      *out++ = static_cast<uint8_t>(std::clamp(white - (((product >> 8) + product) >> 8), 0, 255));
    }
  }
}

void grey_to_rgb(const uint8_t* in, size_t width, uint8_t* out) {
  for (size_t x = 0; x < width; ++x, out += 3) std::memset(out, in[x], 3);
}

}  // namespace

DecodedImage decode_jpeg(const DecodeRequest& request) {
  JpegReader reader(request.data(), request.bytes.size());
  check_status(request, reader, reader.read_header());
  const jpeg_decompress_struct& codec = reader.codec();
  check_decoded_size(request, "JPEG", codec.image_width, codec.image_height);
  if (request.size_only)
    return {{codec.image_width, codec.image_height, {}},
            {},
            request.options.auto_orient ? jpeg_exif_orientation(request.bytes) : 1};

  const int channels = codec.num_components;
  if (channels != 1 && channels != 3 && channels != 4)
    fail(ErrorCode::kUnsupported, "{}: JPEG of {} channels, expected 1 (grey), 3 (colour) or 4 (CMYK)", request.where,
         channels);
  check_status(request, reader, reader.start(channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK));

  DecodedImage decoded{{codec.image_width, codec.image_height, {}}, {}, 1};
  Image& image = decoded.image;
  image.rgb.reserve(static_cast<size_t>(image.height) * image.row_bytes());
  const size_t width = codec.image_width;
  std::vector<uint8_t> raw(channels == 3 ? 0 : kRowsPerCall * width * static_cast<size_t>(channels));
  JSAMPROW rows[kRowsPerCall];
  for (JDIMENSION y = 0; y < codec.image_height;) {
    const JDIMENSION count = std::min(kRowsPerCall, codec.image_height - y);
    image.rgb.resize((y + count) * image.row_bytes());
    for (JDIMENSION i = 0; i < count; ++i)
      rows[i] = channels == 3 ? image.row(y + i) : raw.data() + i * width * static_cast<size_t>(channels);
    JDIMENSION got = 0;
    check_status(request, reader, reader.read_rows(rows, count, &got));
    for (JDIMENSION i = 0; i < got && channels != 3; ++i)
      (channels == 1 ? grey_to_rgb : cmyk_to_rgb)(rows[i], width, image.row(y + i));
    y += got;
  }
  if (request.options.auto_orient) decoded.orientation = jpeg_exif_orientation(request.bytes);
  return decoded;
}

}  // namespace vl2
