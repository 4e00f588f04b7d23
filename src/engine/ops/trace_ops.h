// A backend that computes nothing: with an observer it writes down which operations a model would run, and on what
// shapes.
#pragma once

#include <memory>

#include "engine/ops/ops.h"

namespace vl2 {

std::unique_ptr<Ops> make_trace_ops();

// Collects one line per operation.
class OpRecorder : public OpObserver {
 public:
  void after(std::string_view op, const std::string& shapes) override { lines_ += fmt::format("{} {}\n", op, shapes); }
  const std::string& lines() const { return lines_; }

 private:
  std::string lines_;
};

}  // namespace vl2
