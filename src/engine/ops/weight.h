// Opaque handles of packed weights and caches: a backend makes them, and only the same backend can read them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/quant/panel_format.h"

namespace vl2 {

// What a backend packed; owned by shared Weight handles, immutable, readable from any thread.
class WeightStorage {
 public:
  virtual ~WeightStorage() = default;
  virtual int64_t num_bytes() const = 0;
};

struct Weight {
  std::shared_ptr<const WeightStorage> storage;
  int64_t out = 0;  // rows of the stored matrix; length of a vector
  int64_t in = 0;   // columns of the stored matrix; 1 for a vector

  explicit operator bool() const { return storage != nullptr; }
};

// How a stored tensor will be read, which decides how it is packed.
enum class WeightUse {
  kLinear,  // y = W x
  kRouter,  // y = W x, in float32 whatever the stored type
  kLookup,  // rows are copied out
  kVector,  // bias, norm scale, learned row
};

struct Linear {
  Weight weight;
  Weight bias;  // empty: none
};

// Scale and shift of a layer norm.
struct LayerNorm {
  Weight weight, bias;
  float eps = 1e-6f;
};

// SwiGLU block: down(silu(gate(x)) * up(x)).
struct GatedMlp {
  Linear gate, up, down;
};

// W_kvb of multi-head latent attention, split per head into W_UK [qk_nope, rank] and W_UV [v, rank].
struct LatentWeights {
  Weight weight;
  int64_t num_heads = 0, qk_nope = 0, v = 0, rank = 0;
};

// Rows of keys and values (or latents) for every layer, in blocks of a fixed number of tokens. A sequence names its
// blocks in order; the same block number holds the same tokens in every layer. Written and read by one thread at a
// time.
class KvCache {
 public:
  virtual ~KvCache() = default;
  int64_t num_layers() const { return num_layers_; }
  int64_t num_blocks() const { return num_blocks_; }
  int64_t block_tokens() const { return block_tokens_; }
  int64_t width() const { return width_; }  // values per token and layer
  virtual int64_t num_bytes() const = 0;
  // Stored values of token t of a sequence, widened to float; for traces and tests.
  virtual void read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const = 0;

 protected:
  KvCache(int64_t num_layers, int64_t num_blocks, int64_t block_tokens, int64_t width)
      : num_layers_(num_layers), num_blocks_(num_blocks), block_tokens_(block_tokens), width_(width) {}

 private:
  int64_t num_layers_, num_blocks_, block_tokens_, width_;
};

struct KvLayer {
  KvCache* cache = nullptr;
  int64_t layer = 0;
};

// The rows of one sequence inside a batch. Its tokens stand at positions past .. past + count - 1.
//
// A backend may compute a prompt's rows and an answer's in different orders of summation, but never chooses by how many
// rows there are: so the bits of a row do not depend on chunks or on neighbours.
struct SequenceSlice {
  int64_t begin = 0;                // first row in the batch
  int64_t count = 0;                // new tokens
  int64_t past = 0;                 // tokens already cached
  std::span<const int32_t> blocks;  // cache blocks, enough for past + count tokens
  bool decode = false;              // tokens of the answer being generated; else of a prompt
};

}  // namespace vl2
