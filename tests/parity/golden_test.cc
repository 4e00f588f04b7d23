// Every golden model and case, every stage, on every backend.
#include <gtest/gtest.h>

#include <iostream>

#include "core/base/test_data.h"
#include "parity/backends.h"
#include "parity/compare_case.h"
#include "parity/golden_models.h"

namespace vl2::parity {
namespace {

struct GoldenCase {
  std::string backend, model, name;
};
std::string test_name(const testing::TestParamInfo<GoldenCase>& test) {
  return test.param.backend + "_" + test.param.model + "_" + test.param.name;
}
void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.backend << " " << c.model << " " << c.name; }

std::vector<GoldenCase> all_cases() {
  std::vector<GoldenCase> cases;
  for (const Backend& b : backends())
    for (const GoldenModel& m : golden_models())
      for (const std::string& name : m.cases) cases.push_back({b.name, m.name, name});
  return cases;
}

class Golden : public testing::TestWithParam<GoldenCase> {};

TEST_P(Golden, EveryStageMatchesTheOfficialModel) {
  VL2_NEED_SHARED(shared);
  const auto& [backend_name, model_name, name] = GetParam();
  const auto ops = backend(backend_name).make();
  const auto model = load_model(shared / "golden/models" / model_name, *ops);
  const SafetensorsFile golden(shared / "golden/cases" / model_name / (name + ".safetensors"));
  const SafetensorsFile tiles(shared / "golden/tiles.safetensors");
  const CaseReport report = compare_case(*model, golden, &tiles);
  const std::string table = report_table(model_name, name, report);
  std::cout << table;
  EXPECT_TRUE(report.passed()) << table;
  // The official fp32 and float64 runs choose the same experts at every row: so must double arithmetic.
  if (backend_name == "reference") {
    EXPECT_EQ(report.rows_behind_ties, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, Golden, testing::ValuesIn(all_cases()), test_name);

}  // namespace
}  // namespace vl2::parity
