// For tests only: a random adapter for some layers of a model.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/checkpoint/lora.h"

namespace vl2 {

// Owns the values its tensors point at.
struct RandomAdapter {
  RandomAdapter(const ModelConfig& model, const std::vector<std::string>& targets, int64_t rank, uint64_t seed = 7,
                float size = 0.1f) {
    config.rank = rank;
    config.alpha = 32;
    Random random(seed);
    for (const LoraLayer& layer : lora_layers(model, targets)) {
      const TensorView a = add(random, {rank, layer.in}, size), b = add(random, {layer.out, rank}, size);
      tensors.push_back({layer.module, a, b});
    }
  }

  TensorView add(Random& random, const Shape& shape, float size) {
    std::vector<float>& stored = values.emplace_back(static_cast<size_t>(num_elements(shape)));
    for (float& x : stored) x = size * random.normal();
    return {reinterpret_cast<const std::byte*>(stored.data()), DType::kF32, shape};
  }
  void write(const std::filesystem::path& folder) const { write_lora(folder, config, tensors); }

  LoraConfig config;
  std::vector<LoraTensors> tensors;
  std::deque<std::vector<float>> values;
};

}  // namespace vl2
