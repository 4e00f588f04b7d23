// Single modules at real dimensions, on every instruction set. VL2_FULLWIDTH_SLOW (a definition) makes the program of
// the slow ones: the reference, and experts, whose weights fill gigabytes.
#include "parity/fullwidth.h"

#include <gtest/gtest.h>

#include <iostream>

#include "core/base/test_data.h"
#include "parity/backends.h"

namespace vl2::parity {
namespace {

struct FullwidthCase {
  std::string backend, module;
  DType storage;
};
std::string test_name(const testing::TestParamInfo<FullwidthCase>& test) {
  return fmt::format("{}_{}_{}", test.param.backend, test.param.module,
                     test.param.storage == DType::kF32 ? "f32" : "bf16");
}
void PrintTo(const FullwidthCase& c, std::ostream* out) {
  *out << c.backend << " " << c.module << " " << dtype_name(c.storage);
}

bool is_slow(const std::string& backend, const std::string& module) {
  return backend == "reference" || module.starts_with("moe_");
}

std::vector<FullwidthCase> cases(bool slow) {
  std::vector<FullwidthCase> result;
  for (const Backend& b : backends())
    for (const std::string& module : fullwidth_modules())
      for (const DType storage : {DType::kF32, DType::kBF16})
        if (is_slow(b.name, module) == slow) result.push_back({b.name, module, storage});
  return result;
}

class Fullwidth : public testing::TestWithParam<FullwidthCase> {};

TEST_P(Fullwidth, TheModuleMatchesTheOfficialOne) {
  VL2_NEED_SHARED(shared);
  const auto& [name, module, storage] = GetParam();
  const auto ops = backend(name).make();
  const CaseReport report = run_fullwidth(*ops, storage, shared / "golden/fullwidth", module);
  const std::string table = report_table(name, module, report);
  std::cout << table;
  EXPECT_TRUE(report.passed()) << table;
}

#ifdef VL2_FULLWIDTH_SLOW
INSTANTIATE_TEST_SUITE_P(SlowBackends, Fullwidth, testing::ValuesIn(cases(true)), test_name);
#else
INSTANTIATE_TEST_SUITE_P(Backends, Fullwidth, testing::ValuesIn(cases(false)), test_name);
#endif

}  // namespace
}  // namespace vl2::parity
