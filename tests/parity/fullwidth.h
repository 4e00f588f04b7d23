// Single modules at the releases' dimensions, with weights made by a formula: the golden samples of
// golden/fullwidth against what the model's own functions compute.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "engine/ops/ops.h"
#include "parity/compare_case.h"

namespace vl2::parity {

std::vector<std::string> fullwidth_modules();

// storage: kF32 or kBF16, how the weights are handed to the backend; their values are bf16 either way. Compares with
// the float64 results within the tolerances of golden/README.md; every output's norm and mean size are compared too, so
// that what lies between the samples is seen. folder: golden/fullwidth.
CaseReport run_fullwidth(Ops& ops, DType storage, const std::filesystem::path& folder, const std::string& module);

}  // namespace vl2::parity
