// Every backend the parity suite runs on. A new one is one line in backends.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/ops/ops.h"

namespace vl2::parity {

struct Backend {
  std::string name;
  std::function<std::unique_ptr<Ops>()> make;
  bool rounds = false;  // activations to bf16 before every product
  // A row's bits depend on nothing but the row: not on chunks, neighbours or how operations are fused. Where a library
  // chooses by shape they agree within the noise instead.
  bool same_bits = true;
  bool int8_cache = false;

  std::unique_ptr<Ops> make_on_host() const;  // with tensors that the caller may fill and read
};

const std::vector<Backend>& backends();           // float32 arithmetic or better: held to the goldens' tolerances
const std::vector<Backend>& rounding_backends();  // bf16 compute or attention: held to the goldens' noise
// float32 arithmetic over keys and values stored in bf16 or 8 bits; not among the others: goldens have a cache of their
// own.
const std::vector<Backend>& narrow_cache_backends();
const Backend& backend(const std::string& name);  // of any list; kInvalidArgument, naming those there are

}  // namespace vl2::parity
