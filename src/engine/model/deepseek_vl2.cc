#include "engine/model/deepseek_vl2.h"

#include <algorithm>
#include <utility>

#include "engine/model/attention.h"
#include "engine/model/decoder.h"
#include "engine/model/projector.h"
#include "engine/model/tiles_at_once.h"
#include "engine/model/vision_encoder.h"
#include "engine/model/visual_sequence.h"

namespace vl2 {

DeepseekVl2::DeepseekVl2(ModelConfig config, Ops& ops, WeightSource& source, const BindProgress& progress,
                         const MatrixBound& bound)
    : config_(std::move(config)),
      ops_(ops),
      weights_(bind_weights(config_, ops, source, progress, bound)),
      angles_(config_.language, rotary_dim(config_.language)) {}

std::unique_ptr<KvCache> DeepseekVl2::make_cache(int64_t num_blocks, int64_t block_tokens) const {
  return ops_.make_cache(config_.language.num_hidden_layers, num_blocks, block_tokens, cache_width(config_.language));
}

void DeepseekVl2::encode_images(std::span<const float> pixels, std::span<const ImageGrid> grids, Tensor out_SD,
                                StageTap* tap) const {
  const int64_t tile_floats = 3 * config_.vision.image_size * config_.vision.image_size;
  const int64_t tile_tokens = config_.tokens_per_side() * config_.tokens_per_side();
  int64_t tiles = 0;
  for (const ImageGrid& grid : grids) tiles += grid.num_tiles();
  VL2_CHECK(static_cast<int64_t>(pixels.size()) == tiles * tile_floats, "{} pixels for {} tiles", pixels.size(), tiles);
  if (tiles == 0) return;

  Workspace::Scope scope(ops_.workspace());
  Tensor tokens_VD = ops_.workspace().tensor(tiles * tile_tokens, config_.projector.n_embed);
  const int64_t at_once =
      tap != nullptr ? tiles : tiles_at_once(ops_.on_host());  // a trace shows all tiles as one tensor
  for (int64_t first = 0; first < tiles; first += at_once) {
    const int64_t count = std::min(at_once, tiles - first);
    encode_tiles(pixels.subspan(static_cast<size_t>(first * tile_floats), static_cast<size_t>(count * tile_floats)),
                 tokens_VD.row_range(first * tile_tokens, count * tile_tokens), tap);
  }
  assemble_images(tokens_VD, grids, out_SD, tap);
}

void DeepseekVl2::encode_tiles(std::span<const float> pixels, Tensor out_VD, StageTap* tap) const {
  const ModelContext context{ops_, config_, tap};
  const int64_t tiles = out_VD.rows / (config_.tokens_per_side() * config_.tokens_per_side());
  Workspace::Scope scope(ops_.workspace());
  Tensor features_PW = ops_.workspace().tensor(tiles * config_.vision.num_patches(), config_.vision.width);
  vision_encoder(context, weights_.vision, pixels, features_PW);
  projector(context, weights_.projector, features_PW, out_VD);
}

void DeepseekVl2::assemble_images(Tensor tokens_VD, std::span<const ImageGrid> grids, Tensor out_SD,
                                  StageTap* tap) const {
  const ModelContext context{ops_, config_, tap};
  const int64_t tile_tokens = config_.tokens_per_side() * config_.tokens_per_side();
  int64_t tile = 0, row = 0;
  for (const ImageGrid& grid : grids) {
    const int64_t length = num_visual_tokens(grid.tiles_wide, grid.tiles_high, config_.tokens_per_side());
    visual_sequence(context, weights_.projector,
                    tokens_VD.row_range(tile * tile_tokens, grid.num_tiles() * tile_tokens), grid.tiles_wide,
                    grid.tiles_high, out_SD.row_range(row, length));
    tile += grid.num_tiles();
    row += length;
  }
}

void DeepseekVl2::forward(std::span<const int32_t> ids, std::span<const VisionRows> vision, const ForwardBatch& batch,
                          KvCache& cache, Tensor logits, StageTap* tap) const {
  const ModelContext context{ops_, config_, tap};
  Workspace::Scope scope(ops_.workspace());
  Tensor x_TD = ops_.workspace().tensor(static_cast<int64_t>(ids.size()), config_.language.hidden_size);
  ops_.embed(x_TD, weights_.embed_tokens, ids);
  for (const VisionRows& rows : vision) ops_.scatter_rows(x_TD, rows.features, rows.rows);
  context.stage("inputs_embeds", x_TD);
  decoder(context, weights_, angles_, x_TD, batch, cache, logits);
}

}  // namespace vl2
