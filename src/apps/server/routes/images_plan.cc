// POST /v1/images/plan: {images: [...], preview} -> how each would be cut, and what it costs. Nothing is computed by
// the model.
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/prompt.h"
#include "apps/server/route.h"
#include "core/base/base64.h"
#include "core/image/draw.h"
#include "core/image/encode.h"
#include "core/image/tiling.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMostPreviews = 8;  // their PNG files are held together

// What the local tiles show: the picture on its canvas, with a frame around each tile.
std::string preview_url(const Image& image, const TiledImage& plan) {
  const int64_t size = plan.tile_size;
  const Image canvas = fit_and_pad(image, plan.tiles_wide * size, plan.tiles_high * size);
  std::vector<LabelledBox> frames;
  for (int64_t row = 0; row < plan.tiles_high; ++row)
    for (int64_t column = 0; column < plan.tiles_wide; ++column)
      frames.push_back({static_cast<double>(column * size), static_cast<double>(row * size),
                        static_cast<double>((column + 1) * size - 1), static_cast<double>((row + 1) * size - 1), ""});
  return "data:image/png;base64," + encode_base64(encode_png(draw_boxes(canvas, frames), PngEffort::kFast));
}

ordered_json plan_json(const TiledImage& image, int64_t tokens) {
  const int64_t width = image.tiles_wide * image.tile_size, height = image.tiles_high * image.tile_size;
  const PadPlan fitted = plan_pad(image.original_width, image.original_height, width, height);
  return {{"width", image.original_width},
          {"height", image.original_height},
          {"size", {image.original_width, image.original_height}},
          {"best_resolution", {width, height}},
          {"grid", {image.tiles_wide, image.tiles_high}},
          {"tile_size", image.tile_size},
          {"tiles", image.num_tiles()},
          {"tokens", tokens},
          {"resized", {fitted.new_w, fitted.new_h}},
          {"offset", {fitted.x, fitted.y}}};
}

}  // namespace

void answer_images_plan(RouteCall& call) {
  call.server.engine();
  const nlohmann::json body = read_json(call);
  const Fields fields(body);
  const nlohmann::json* images = fields.find("images");
  if (images == nullptr || !images->is_array() || images->empty())
    fields.reject("images", "a list of pictures: URLs, or objects as in image_url");
  std::vector<MediaSource> sources;
  for (size_t i = 0; i < images->size(); ++i)
    sources.push_back(parse_image_url((*images)[i], fmt::format("images[{}]", i)));
  const bool preview = fields.boolean("preview").value_or(false);
  if (preview && sources.size() > kMostPreviews)
    fields.reject("preview", fmt::format("false: at most {} pictures are drawn at a time", kMostPreviews));
  const LoadedPictures pictures = load_pictures(call.server, std::move(sources));
  // As in one message: how many there are decides how finely they are cut.
  Message message{"user", ""};
  for (size_t i = 0; i < pictures.sizes.size(); ++i) message.content += kPictureMark;
  const std::vector<Message> messages = {std::move(message), {"assistant", ""}};
  const MultimodalPrompt prompt = plan_chat(call.server, messages, pictures, false);
  ordered_json out = ordered_json::array();
  int64_t total = 0;
  for (size_t i = 0; i < prompt.images.size(); ++i) {
    out.push_back(plan_json(prompt.images[i], prompt.num_image_tokens[i]));
    total += prompt.num_image_tokens[i];
  }
  if (preview)
    for (size_t i = 0; i < prompt.images.size(); ++i)
      with_pixels(call.server, pictures, i,
                  [&](const Image& image) { out[i]["preview"] = preview_url(image, prompt.images[i]); });
  reply_json(call, {{"images", std::move(out)}, {"tokens", total}});
}

}  // namespace vl2::server
