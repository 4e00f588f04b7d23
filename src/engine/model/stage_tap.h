// Lets a trace see every stage's activations under the names of the golden files, on the host. Null in ordinary runs.
#pragma once

#include <string>

#include "engine/ops/ops.h"

namespace vl2 {

class StageTap {
 public:
  virtual ~StageTap() = default;
  // layer.*: the parts of each decoder layer, which cost extra work to show.
  virtual bool wants_layer_details() const { return true; }
  virtual void stage(const std::string& name, Tensor values) = 0;
  virtual void routing(int64_t layer, const Routing& routing) = 0;
};

// What every model function is handed.
struct ModelContext {
  Ops& ops;
  const ModelConfig& config;
  StageTap* tap = nullptr;

  bool shows_layer_details() const { return tap != nullptr && tap->wants_layer_details(); }
  void stage(const std::string& name, Tensor values) const {
    if (tap != nullptr) tap->stage(name, ops.to_host(values).values);
  }
  void routing(int64_t layer, const Routing& routing) const {
    if (tap != nullptr) tap->routing(layer, ops.to_host(routing).values);
  }
};

}  // namespace vl2
