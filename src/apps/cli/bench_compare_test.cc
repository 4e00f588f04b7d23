#include "apps/cli/bench_compare.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/temp_folder.h"

namespace vl2::cli {
namespace {

// A report of one decode result, written and read back as a user would.
BenchReport report_of(std::vector<double> seconds) {
  BenchReport report;
  report.subject = "tiny";
  report.description = "cpu";
  report.format = "bf16";
  report.processor = "some processor";
  report.threads = 2;
  report.layers = 12;
  BenchResult result;
  result.work = "decode";
  result.count = 32;
  result.unit = "vector";
  result.bytes = 1e9;
  for (const double s : seconds) {
    BenchRepeat& repeat = result.repeats.emplace_back();
    repeat.seconds = s;
    repeat.before = repeat.after = {10, {{"vector", 1}}};
  }
  report.results.push_back(result);
  finish_report(report);
  return report;
}

SavedBench saved(const TempFolder& folder, const std::string& name, const BenchReport& report) {
  write_file_atomic(folder / name, bench_json(report));
  return read_bench(folder / name);
}

TEST(BenchCompare, AReportBesideItselfShowsNoDifference) {
  const TempFolder folder;
  const SavedBench a = saved(folder, "a.json", report_of({0.2, 0.21, 0.19}));
  const auto changes = compare_bench(a, a, false);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_DOUBLE_EQ(changes[0].ratio(), 1);
  EXPECT_FALSE(changes[0].differs());
  EXPECT_NE(compare_text(a, a, changes).find("no difference"), std::string::npos);
}

TEST(BenchCompare, OnlyRepeatsThatDoNotOverlapAreADifference) {
  const TempFolder folder;
  const SavedBench a = saved(folder, "a.json", report_of({0.20, 0.22, 0.24}));
  const SavedBench faster = saved(folder, "b.json", report_of({0.10, 0.11, 0.19}));
  const SavedBench overlapping = saved(folder, "c.json", report_of({0.10, 0.11, 0.21}));
  EXPECT_TRUE(compare_bench(a, faster, false)[0].differs());
  EXPECT_NEAR(compare_bench(a, faster, false)[0].ratio(), 2, 1e-9);
  EXPECT_NE(compare_text(a, faster, compare_bench(a, faster, false)).find("B is faster"), std::string::npos);
  EXPECT_NE(compare_text(faster, a, compare_bench(faster, a, false)).find("A is faster"), std::string::npos);
  EXPECT_FALSE(compare_bench(a, overlapping, false)[0].differs());
}

TEST(BenchCompare, OtherModelsAndMachinesAreRefusedUnlessForced) {
  const TempFolder folder;
  const SavedBench a = saved(folder, "a.json", report_of({0.2}));
  for (const auto& change : std::vector<void (*)(BenchReport&)>{
           [](BenchReport& r) { r.subject = "small"; }, [](BenchReport& r) { r.layers = 3; },
           [](BenchReport& r) { r.processor = "another"; }, [](BenchReport& r) { r.threads = 8; }}) {
    BenchReport other = report_of({0.2});
    change(other);
    const SavedBench b = saved(folder, "b.json", other);
    try {
      compare_bench(a, b, false);
      ADD_FAILURE() << "compared " << b.report.subject << " on " << b.report.processor;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("--force"), std::string::npos) << e.what();
    }
    EXPECT_EQ(compare_bench(a, b, true).size(), 1u);
  }
  // Another format of the same model is what comparisons are for.
  BenchReport quantised = report_of({0.2});
  quantised.format = "q4";
  EXPECT_EQ(compare_bench(a, saved(folder, "b.json", quantised), false).size(), 1u);
}

TEST(BenchCompare, NothingInCommonIsAnError) {
  const TempFolder folder;
  BenchReport other = report_of({0.2});
  other.results[0].context = 1024;
  const SavedBench a = saved(folder, "a.json", report_of({0.2})), b = saved(folder, "b.json", other);
  EXPECT_THROW(compare_bench(a, b, false), Error);
}

TEST(BenchCompare, AFileThatIsNoReportIsSaidToBeNone) {
  const TempFolder folder;
  for (const char* text : {"{}", "[]", "{\"machine\": 3}", "{\"machine\": {}, \"subject\": \"tiny\"}", "not json"}) {
    write_file_atomic(folder / "a.json", text);
    try {
      read_bench(folder / "a.json");
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kCorrupt) << text;
      EXPECT_NE(std::string(e.what()).find("a.json"), std::string::npos) << e.what();
    }
  }
  EXPECT_THROW(read_bench(folder / "missing.json"), Error);
}

}  // namespace
}  // namespace vl2::cli
