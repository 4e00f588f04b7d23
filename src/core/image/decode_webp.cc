// WebP by libwebp: lossy, lossless, and the first frame of an animation on its (black) canvas.
#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "core/base/error.h"
#include "core/image/decoders.h"

namespace vl2 {
namespace {

struct DeleteDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

// One frame of an open demuxer.
class Frame {
 public:
  explicit Frame(const WebPDemuxer* demuxer) : found_(WebPDemuxGetFrame(demuxer, 1, &at_) != 0) {}
  ~Frame() {
    if (found_) WebPDemuxReleaseIterator(&at_);
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  bool found() const { return found_; }
  const WebPIterator& at() const { return at_; }

 private:
  WebPIterator at_{};
  bool found_;
};

// Decodes a frame to interleaved samples at `out`, whose rows are `stride` bytes apart.
void decode_frame(const DecodeRequest& request, const WebPIterator& frame, WEBP_CSP_MODE mode, uint8_t* out,
                  size_t stride, size_t size) {
  WebPDecoderConfig config;
  VL2_CHECK(WebPInitDecoderConfig(&config) != 0, "libwebp of another version than its headers");
  config.output.colorspace = mode;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {out, static_cast<int>(stride), size};
  const VP8StatusCode status = WebPDecode(frame.fragment.bytes, frame.fragment.size, &config);
  WebPFreeDecBuffer(&config.output);
  if (status == VP8_STATUS_OUT_OF_MEMORY)
    fail(ErrorCode::kOutOfMemory, "{}: not enough memory to decode this WebP of {} x {}; scale the picture down",
         request.where, frame.width, frame.height);
  if (status == VP8_STATUS_NOT_ENOUGH_DATA || status == VP8_STATUS_SUSPENDED)
    fail_corrupt(request, "WebP", "it ends in the middle of the picture (truncated)");
  if (status != VP8_STATUS_OK)
    fail_corrupt(request, "WebP", fmt::format("libwebp status {}", static_cast<int>(status)));
}

}  // namespace

DecodedImage decode_webp(const DecodeRequest& request) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(request.data(), request.bytes.size(), &features) == VP8_STATUS_OK)
    check_decoded_size(request, "WebP", features.width, features.height);  // before the chunks are gone through
  const WebPData data{request.data(), request.bytes.size()};
  WebPDemuxState state = WEBP_DEMUX_PARSE_ERROR;
  const std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer(WebPDemuxPartial(&data, &state));
  if (demuxer == nullptr || state != WEBP_DEMUX_DONE)
    fail_corrupt(request, "WebP",
                 state == WEBP_DEMUX_PARSE_ERROR ? "its chunks make no sense" : "it ends too early (truncated)");
  const size_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const size_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  check_decoded_size(request, "WebP", static_cast<int64_t>(width), static_cast<int64_t>(height));
  if (request.size_only) return {{static_cast<int64_t>(width), static_cast<int64_t>(height), {}}, {}, 1};

  const Frame first(demuxer.get());
  if (!first.found()) fail_corrupt(request, "WebP", "it holds no frame");
  const WebPIterator& frame = first.at();
  if (WebPGetFeatures(frame.fragment.bytes, frame.fragment.size, &features) != VP8_STATUS_OK ||
      features.width != frame.width || features.height != frame.height || frame.x_offset < 0 || frame.y_offset < 0 ||
      static_cast<size_t>(frame.x_offset) + static_cast<size_t>(frame.width) > width ||
      static_cast<size_t>(frame.y_offset) + static_cast<size_t>(frame.height) > height)
    fail_corrupt(request, "WebP", "its first frame does not have the size the headers say");

  DecodedImage decoded{make_image(static_cast<int64_t>(width), static_cast<int64_t>(height), 0, 0, 0), {}, 1};
  const size_t start = static_cast<size_t>(frame.y_offset) * width + static_cast<size_t>(frame.x_offset);
  std::vector<uint8_t>& rgb = decoded.image.rgb;
  const size_t frame_width = static_cast<size_t>(frame.width), frame_height = static_cast<size_t>(frame.height);
  const bool opaque = features.has_alpha == 0 && frame_width == width && frame_height == height;
  if (opaque || !request.wants_alpha()) {
    decode_frame(request, frame, MODE_RGB, rgb.data() + start * 3, width * 3, rgb.size() - start * 3);
    return decoded;
  }
  decoded.alpha.assign(width * height, 0);  // outside the frame: transparent
  std::vector<uint8_t> rgba(frame_width * frame_height * 4);
  decode_frame(request, frame, MODE_RGBA, rgba.data(), frame_width * 4, rgba.size());
  for (size_t y = 0; y < frame_height; ++y) {
    for (size_t x = 0; x < frame_width; ++x) {
      const uint8_t* pixel = rgba.data() + (y * frame_width + x) * 4;
      const size_t at = start + y * width + x;
      for (size_t c = 0; c < 3; ++c) rgb[at * 3 + c] = pixel[c];
      decoded.alpha[at] = pixel[3];
    }
  }
  return decoded;
}

}  // namespace vl2
