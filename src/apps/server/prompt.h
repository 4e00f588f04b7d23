// Messages and pictures of a request -> the prompt the engine takes, checked before it costs anything. Any thread.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/api_chat.h"
#include "apps/server/context.h"
#include "core/processor/multimodal_prompt.h"

namespace vl2::server {

// Pictures as bytes of files, with their sizes; pixels come later.
struct LoadedPictures {
  std::vector<std::string> files;
  std::vector<std::string> params;
  std::vector<ImageSize> sizes;
  std::vector<PictureDetail> details;
  std::vector<std::unique_ptr<ServerContext::Ticket>> remote;  // the room of those that were fetched
};

// ApiError: 400 invalid_image, invalid_image_url; 403; 413 for too many pixels, bytes or pictures; 503.
LoadedPictures load_pictures(const ServerContext& server, std::vector<MediaSource> sources);

// Sizes before pixels: what does not fit into the context is refused (400 context_length_exceeded) before a picture is
// decoded. The pixels are empty in what plan_ gives.
MultimodalPrompt plan_chat(const ServerContext& server, std::span<const Message> messages,
                           const LoadedPictures& pictures, bool allow_special);
MultimodalPrompt build_chat(ServerContext& server, std::span<const Message> messages, const LoadedPictures& pictures,
                            bool allow_special);
// Text to go on with. `placeholder`: what stands for a picture in it.
MultimodalPrompt build_text(ServerContext& server, std::string_view text, std::string_view placeholder,
                            const LoadedPictures& pictures, bool allow_special, const std::string& param = "prompt");

// The pixels of one picture, in one of the few places for that until `use` returns. ApiError 400 invalid_image.
void with_pixels(ServerContext& server, const LoadedPictures& pictures, size_t index,
                 const std::function<void(const Image&)>& use);

// ApiError 400 context_length_exceeded.
void check_context(const ServerContext& server, const MultimodalPrompt& prompt, const std::string& param);

}  // namespace vl2::server
