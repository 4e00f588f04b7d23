#include "apps/server/prompt.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/api_media.h"
#include "apps/server/tile_cache.h"
#include "core/image/decode.h"
#include "core/image/tiling.h"

namespace vl2::server {
namespace {

constexpr int64_t kAnySize = int64_t{1} << 40;  // the limit is ours, and so are its words
// No token of a real vocabulary is longer, so a text of more bytes is too long before it is split.
constexpr size_t kLongestToken = 512;

std::span<const std::byte> bytes_of(const std::string& file) { return std::as_bytes(std::span(file)); }

[[noreturn]] void too_long(int64_t context, const std::string& tokens, const std::string& param) {
  throw ApiError(400,
                 fmt::format("This model's maximum context length is {} tokens, one of which is kept for the answer, "
                             "but the prompt has {}. Shorten the text, or send fewer or smaller pictures.",
                             context, tokens),
                 "context_length_exceeded", param);
}

void check_text_bytes(const ServerContext& server, size_t bytes, const std::string& param) {
  const int64_t context = server.engine().max_context();
  if (bytes > static_cast<size_t>(context) * kLongestToken) too_long(context, "far more", param);
}

// The processor's complaints about texts and pictures are the client's to mend.
template <typename Build>
MultimodalPrompt built(const Build& build, const LoadedPictures& pictures) {
  try {
    return build();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    throw bad_request(error, pictures.sizes.empty() ? "" : "invalid_image");
  }
}

// The pictures of one request that are on other machines.
class RemotePictures {
 public:
  RemotePictures(const ServerContext& server, LoadedPictures& pictures)
      : server_(server), pictures_(pictures), deadline_(Clock::now() + server.options().remote_time) {}

  std::string fetch(std::string_view url, const std::string& param) {
    RemoteMediaOptions options = server_.options().remote;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now());
    options.time = std::clamp(left, std::chrono::milliseconds(1), options.time);
    options.bytes = std::min(options.bytes, server_.options().http.body_bytes - fetched_);
    std::string file;
    {
      const auto most =
          options.allowed ? server_.reserve_remote(static_cast<int64_t>(options.bytes)) : nullptr;  // while it comes
      file = fetch_remote(url, options, param, [&] { return server_.stopping(); });
    }
    pictures_.remote.push_back(server_.reserve_remote(static_cast<int64_t>(file.size())));
    fetched_ += file.size();
    return file;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const ServerContext& server_;
  LoadedPictures& pictures_;
  const Clock::time_point deadline_;
  size_t fetched_ = 0;  // no more than a client could have sent itself
};

// Looks at the pictures.
PromptOptions options_for(std::string_view placeholder, bool allow_special, const LoadedPictures& pictures) {
  PromptOptions options;
  options.details = pictures.details;
  options.untrusted = !allow_special;
  options.placeholder = placeholder;
  return options;
}

// A plan from sizes, and the tiles it lacks.
MultimodalPrompt with_tiles(ServerContext& server, const LoadedPictures& pictures, MultimodalPrompt prompt) {
  VL2_CHECK(prompt.images.size() == pictures.files.size());
  for (size_t i = 0; i < prompt.images.size(); ++i) {
    TiledImage& image = prompt.images[i];
    const Digest key = tiles_key(bytes_of(pictures.files[i]), image);
    std::shared_ptr<const TileCache::Tiles> tiles = server.tiles().find(key);
    if (tiles == nullptr) {
      with_pixels(server, pictures, i, [&](const Image& pixels) {
        tiles = std::make_shared<TileCache::Tiles>(
            cut_tiles(pixels, {image.tiles_wide, image.tiles_high}, image.tile_size));
      });
      server.tiles().keep(key, tiles);
    }
    image.pixels = *tiles;
  }
  return prompt;
}

}  // namespace

LoadedPictures load_pictures(const ServerContext& server, std::vector<MediaSource> sources) {
  const ServerOptions& options = server.options();
  if (sources.size() > options.max_pictures)
    throw ApiError(
        413, fmt::format("the request has {} pictures; at most {} are taken", sources.size(), options.max_pictures),
        "request_too_large");
  LoadedPictures result;
  RemotePictures remote(server, result);
  int64_t pixels = 0;
  for (MediaSource& source : sources) {
    std::string file = load_media(source.url, options.media_path, source.param,
                                  [&](std::string_view url) { return remote.fetch(url, source.param); });
    source.url.clear();
    source.url.shrink_to_fit();  // the same bytes once more, in base64
    ImageSize size;
    try {
      size = probe_image(bytes_of(file), source.param, {.max_pixels = kAnySize});
    } catch (const Error& error) {
      throw bad_request(error, "invalid_image", source.param);
    }
    // Sides are at most 2^31, so neither the product nor the sum overflows before it is refused.
    pixels += size.width * size.height;
    if (pixels > options.max_picture_pixels)
      throw ApiError(413,
                     fmt::format("{}: with {} x {} pixels the request has {}; at most {} are decoded", source.param,
                                 size.width, size.height, pixels, options.max_picture_pixels),
                     "request_too_large", source.param);
    result.files.push_back(std::move(file));
    result.params.push_back(std::move(source.param));
    result.sizes.push_back(size);
    result.details.push_back(source.detail);
  }
  return result;
}

void with_pixels(ServerContext& server, const LoadedPictures& pictures, size_t index,
                 const std::function<void(const Image&)>& use) {
  server.decoders().acquire();
  const std::unique_ptr<std::counting_semaphore<>, void (*)(std::counting_semaphore<>*)> place(
      &server.decoders(), [](std::counting_semaphore<>* places) { places->release(); });
  const std::string& param = pictures.params[index];
  DecodeOptions options;
  options.max_pixels = server.options().max_picture_pixels;
  Image image;
  try {
    image = decode_image(bytes_of(pictures.files[index]), param, options);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kOutOfMemory) throw;
    throw bad_request(error, "invalid_image", param);
  }
  const ImageSize planned = pictures.sizes[index];
  if (image.width != planned.width || image.height != planned.height)
    throw ApiError(400,
                   fmt::format("{}: its header says {} x {} pixels, but it has {} x {}", param, planned.width,
                               planned.height, image.width, image.height),
                   "invalid_image", param);
  use(image);
}

void check_context(const ServerContext& server, const MultimodalPrompt& prompt, const std::string& param) {
  const int64_t context = server.engine().max_context();
  const auto tokens = static_cast<int64_t>(prompt.input_ids.size());
  if (tokens < context) return;
  const int64_t vision = std::accumulate(prompt.num_image_tokens.begin(), prompt.num_image_tokens.end(), int64_t{0});
  too_long(context, vision > 0 ? fmt::format("{}, {} of them of pictures", tokens, vision) : std::to_string(tokens),
           param);
}

MultimodalPrompt plan_chat(const ServerContext& server, std::span<const Message> messages,
                           const LoadedPictures& pictures, bool allow_special) {
  size_t bytes = 0;
  for (const Message& message : messages) bytes += message.content.size();
  check_text_bytes(server, bytes, "messages");
  const PromptOptions options = options_for(kPictureMark, allow_special, pictures);
  return built([&] { return server.engine().processor().build_from_sizes(messages, pictures.sizes, options); },
               pictures);
}

MultimodalPrompt build_chat(ServerContext& server, std::span<const Message> messages, const LoadedPictures& pictures,
                            bool allow_special) {
  MultimodalPrompt plan = plan_chat(server, messages, pictures, allow_special);
  check_context(server, plan, "messages");
  return with_tiles(server, pictures, std::move(plan));
}

MultimodalPrompt build_text(ServerContext& server, std::string_view text, std::string_view placeholder,
                            const LoadedPictures& pictures, bool allow_special, const std::string& param) {
  check_text_bytes(server, text.size(), param);
  const Processor& processor = server.engine().processor();
  const PromptOptions options = options_for(placeholder, allow_special, pictures);
  MultimodalPrompt plan =
      built([&] { return processor.build_raw_from_sizes(text, pictures.sizes, options); }, pictures);
  check_context(server, plan, param);
  return with_tiles(server, pictures, std::move(plan));
}

}  // namespace vl2::server
