// T: rows, N: tiles, S: rows of all images, D: hidden size.
#include "train/model/input_embeddings.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "train/model/projector.h"
#include "train/model/vision_encoder.h"
#include "train/model/visual_sequence.h"

namespace vl2::train {
namespace {

// Numbers of tiles of which few different ones occur, at most an eighth more than asked for (see rounded_length).
int64_t rounded_tiles(int64_t tiles) {
  const int64_t step = tiles <= 8 ? 1 : tiles <= 16 ? 2 : tiles <= 32 ? 4 : 8;
  return (tiles + step - 1) / step * step;
}

// Tiles to encode, and for each tile of the pictures which of them it is.
struct Tiles {
  at::Tensor stacked;  // [N, size, size, 3] u8
  std::vector<int64_t> number;
};

Tiles stack_tiles(const ModelContext& context, std::span<const TiledImage> images, const std::string& where) {
  const int64_t size = context.config().vision.image_size, bytes = size * size * 3;
  std::vector<const uint8_t*> pixels;
  Tiles tiles;
  for (const TiledImage& image : images) {
    if (image.tile_size != size || image.tiles_wide < 1 || image.tiles_high < 1 ||
        static_cast<int64_t>(image.pixels.size()) != image.num_tiles() * bytes)
      fail(ErrorCode::kInvalidArgument,
           "{}: a picture of {} x {} tiles of {} pixels has {} bytes, expected tiles of {}", where, image.tiles_wide,
           image.tiles_high, image.tile_size, image.pixels.size(), size);
    for (int64_t t = 0; t < image.num_tiles(); ++t) {
      const uint8_t* tile = image.pixels.data() + t * bytes;
      // The local tile of a picture that is not cut is its global view: encoded once, with the gradients of both. A
      // trace shows every tile.
      const bool again =
          t == 1 && !context.traced() && std::memcmp(tile, tile - bytes, static_cast<size_t>(bytes)) == 0;
      if (!again) pixels.push_back(tile);
      tiles.number.push_back(static_cast<int64_t>(pixels.size()) - 1);
    }
  }
  const bool padded = context.state->compute != at::kFloat && !context.traced();
  const auto count = static_cast<int64_t>(pixels.size());
  const at::Device device = context.parameters->device();
  tiles.stacked = at::empty({padded ? rounded_tiles(count) : count, size, size, 3},
                            at::TensorOptions().dtype(at::kByte).pinned_memory(device.is_cuda()));
  auto* out = tiles.stacked.data_ptr<uint8_t>();
  at::parallel_for(0, tiles.stacked.size(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      t < count ? std::memcpy(out + t * bytes, pixels[static_cast<size_t>(t)], static_cast<size_t>(bytes))
                : std::memset(out + t * bytes, 0, static_cast<size_t>(bytes));
  });
  tiles.stacked = tiles.stacked.to(device, /*non_blocking=*/true);
  return tiles;
}

}  // namespace

at::Tensor input_embeddings(const ModelContext& context, std::span<const int32_t> ids,
                            std::span<const uint8_t> vision_mask, std::span<const TiledImage> images,
                            const std::string& where) {
  const int64_t rows = context.state->rows, vocab = context.language().vocab_size;
  const at::Device device = context.parameters->device();
  std::vector<int64_t> wide_ids(static_cast<size_t>(rows), 0), vision_rows;
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] < 0 || ids[t] >= vocab)
      fail(ErrorCode::kInvalidArgument, "{}: token {} is {}, expected 0 to {}", where, t, ids[t], vocab - 1);
    wide_ids[t] = ids[t];
    if (vision_mask[t] != 0) vision_rows.push_back(static_cast<int64_t>(t));
  }
  int64_t vision_tokens = 0;
  for (const TiledImage& image : images)
    vision_tokens += num_visual_tokens(image.tiles_wide, image.tiles_high, context.config().tokens_per_side());
  if (vision_tokens != static_cast<int64_t>(vision_rows.size()))
    fail(ErrorCode::kInvalidArgument, "{}: {} placeholders for {} vision tokens", where, vision_rows.size(),
         vision_tokens);

  const at::Tensor table = context.master("language.model.embed_tokens.weight");
  at::Tensor x_TD = at::embedding(table, to_tensor(wide_ids, device)).to(context.state->compute);
  if (!images.empty()) {
    const Tiles tiles = stack_tiles(context, images, where);
    const at::Tensor features_PW = vision_encoder(context, tiles.stacked);
    const at::Tensor encoded_VD = projector(context, features_PW);
    const at::Tensor encoded_NXD = encoded_VD.view({tiles.stacked.size(0), -1, encoded_VD.size(1)});
    const at::Tensor tokens_VD =
        encoded_NXD.index_select(0, to_tensor(tiles.number, device)).view({-1, encoded_VD.size(1)});
    const at::Tensor sequence_SD = visual_sequence(context, tokens_VD, images);
    x_TD = x_TD.index_copy(0, to_tensor(vision_rows, device), sequence_SD);
  }
  context.stage("inputs_embeds", x_TD);
  return x_TD;
}

}  // namespace vl2::train
