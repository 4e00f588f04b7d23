// What each kind of operation took in one turn, and what it had to do at least.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/ops/limits.h"
#include "engine/ops/ops.h"

namespace vl2::cli {

struct OpRow {
  std::string op;
  int64_t calls = 0;
  double seconds = 0;
  OpWork work;
  // By finish_ops:
  double part = 0;    // of the seconds of all operations
  double share = 0;   // floor / seconds, the floor being the larger of flops at the peak and bytes at reading speed
  std::string limit;  // which of the two: a unit's name, or "read"
};

// Sums up the operations of the Ops it observes. Reading the clock around an operation takes less than a microsecond.
class OpTable : public OpObserver {
 public:
  void work(std::string_view op, const OpWork& work) override;
  void before(std::string_view op) override;
  void after(std::string_view op, const std::string& shapes) override;

  std::vector<OpRow> rows() const;  // longest first
  // Distinct routed experts of a layer, on average; 0 without one.
  double experts_per_layer() const;

 private:
  using Clock = std::chrono::steady_clock;
  std::map<std::string, OpRow, std::less<>> rows_;
  Clock::time_point start_;
};

// unit: what multiplies matrices; the router and attention over keys and values run on `float_unit` whatever the
// matrices are, attention of pictures and over latents on `attention_unit`.
void finish_ops(std::vector<OpRow>& rows, const MachineLimits& limits, const std::string& unit,
                const std::string& float_unit, const std::string& attention_unit);

}  // namespace vl2::cli
