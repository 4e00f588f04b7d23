// Runs one golden case and compares every stage with what the official implementation computed, within the tolerances
// recommended by golden/README.md for an fp32 engine.
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "engine/model/deepseek_vl2.h"

namespace vl2::parity {

// The worst value of all tensors of one class in one case.
struct StageError {
  std::string stage;  // "hidden.#"
  double max_error = 0;
  double tolerance = 0;
  int64_t values = 0;
  std::string worst;  // "hidden.3 [0, 17, 4]: 1.25 instead of 1.24"
};

struct CaseReport {
  std::vector<StageError> stages;
  // Not a matter of tolerance: a tensor is missing, an expert or a token differs where it must not.
  std::vector<std::string> failures;
  // Rows after an expert choice so close that either is right (gap <= 2e-5) fell differently: nothing behind them is
  // comparable.
  int64_t rows_behind_ties = 0;
  int64_t forced_steps = 0;  // generation steps compared by teacher forcing after a near tie of tokens

  bool passed() const;
};

// tiles: the pool a case with pictures takes its tiles from; nullptr for text.
CaseReport compare_case(const DeepseekVl2& model, const SafetensorsFile& golden, const SafetensorsFile* tiles);

// How far a run that rounds (bf16 compute) ends from the golden logits: over all rows the golden kept.
struct LogitsNoise {
  double rms = 0, max = 0, golden_rms = 0;
  double agreement = 0;  // share of rows whose largest logit is the same one
  int64_t rows = 0;
};
LogitsNoise logits_noise(const DeepseekVl2& model, const SafetensorsFile& golden, const SafetensorsFile* tiles);

// "model case stage max error tolerance", a line each.
std::string report_table(const std::string& model, const std::string& name, const CaseReport& report);

}  // namespace vl2::parity
