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
};

const std::vector<Backend>& backends();
const Backend& backend(const std::string& name);  // kInvalidArgument, listing those there are

}  // namespace vl2::parity
