// DeepSeek-VL2: tiles and token ids in, logits out. The one definition of the model, for every variant and backend.
//
// Owns the packed weights; borrows the Ops. Driven by one thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/model_spec/model_config.h"
#include "engine/model/bind_weights.h"
#include "engine/model/forward_batch.h"
#include "engine/model/rope.h"
#include "engine/model/stage_tap.h"

namespace vl2 {

struct ImageGrid {
  int64_t tiles_wide = 1;
  int64_t tiles_high = 1;
  int64_t num_tiles() const { return 1 + tiles_wide * tiles_high; }
};

// A row of the step's input that comes from a picture instead of the embedding table.
struct VisionRows {
  Tensor features;                // [n, D], from encode_images
  std::span<const int32_t> rows;  // where they go in the batch
};

class DeepseekVl2 {
 public:
  DeepseekVl2(ModelConfig config, Ops& ops, WeightSource& source, const BindProgress& progress = {},
              const MatrixBound& bound = {});

  const ModelConfig& config() const { return config_; }
  Ops& ops() const { return ops_; }

  // A cache for num_blocks blocks of block_tokens tokens.
  std::unique_ptr<KvCache> make_cache(int64_t num_blocks, int64_t block_tokens) const;

  // pixels: [tiles of all images][3][size][size], normalised; per image the global view first. out_SD: the images'
  // visual sequences one after the other (visual_sequence.h gives their lengths).
  void encode_images(std::span<const float> pixels, std::span<const ImageGrid> grids, Tensor out_SD,
                     StageTap* tap = nullptr) const;

  // The same in two steps, for those who have other work in between. A tile's tokens do not depend on its neighbours.
  // out_VD: [tiles * side * side, D]; all tiles go through the encoder together, tiles_at_once() are enough.
  void encode_tiles(std::span<const float> pixels, Tensor out_VD, StageTap* tap = nullptr) const;
  void assemble_images(Tensor tokens_VD, std::span<const ImageGrid> grids, Tensor out_SD,
                       StageTap* tap = nullptr) const;

  // One step. ids [T]; logits [batch.logit_rows, vocab].
  void forward(std::span<const int32_t> ids, std::span<const VisionRows> vision, const ForwardBatch& batch,
               KvCache& cache, Tensor logits, StageTap* tap = nullptr) const;

 private:
  ModelConfig config_;
  Ops& ops_;
  ModelWeights weights_;
  RopeAngles angles_;
};

}  // namespace vl2
