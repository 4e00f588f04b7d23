#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

const std::string kNano = std::string(source_dir()) + "/tests/goldens/nano/model";

TEST(Info, CountsWhatIsInTheCheckpoint) {
  const Outcome outcome = run_vl2({"info", kNano, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json info = json::parse(outcome.out);
  // 16-bit values, and nothing else in the file
  EXPECT_EQ(info["parameters"]["total"].get<int64_t>() * 2, info["tensors"]["bytes"].get<int64_t>());
  EXPECT_EQ(info["tensors"]["dtypes"]["BF16"], info["tensors"]["count"]);
  EXPECT_LT(info["parameters"]["activated"], info["parameters"]["total"]);
  EXPECT_GT(info["memory"]["total"], info["memory"]["weights"]);
  EXPECT_EQ(info["architecture"]["language"]["attention"], "mla");
}

TEST(Info, TheModelCanBeNamedInThreeWaysOrNotAtAll) {
  const std::string by_folder = run_vl2({"info", "-m", kNano, "--json"}).out;
  EXPECT_EQ(json::parse(run_vl2({"info", kNano, "--json"}).out)["parameters"], json::parse(by_folder)["parameters"]);
  EXPECT_EQ(json::parse(run_vl2({"info", "--json"}).out)["parameters"], json::parse(by_folder)["parameters"]);
}

TEST(Info, WithoutANameTheShippedModelAnswers) {
  RunOptions options;
  options.environment = {{"VL2_MODEL", ""}};
  const std::string shipped = run_vl2({"info", "-m", std::string(source_dir()) + "/models/nano", "--json"}).out;
  EXPECT_EQ(json::parse(run_vl2({"info", "--json"}, options).out)["parameters"], json::parse(shipped)["parameters"]);
}

TEST(Info, AHubIdIsFoundInTheCacheOfHuggingFace) {
  const TempFolder temp;
  const auto repository = temp / "hub/models--someone--nano";
  std::filesystem::create_directories(repository / "refs");
  std::filesystem::create_directories(repository / "snapshots");
  std::filesystem::create_directory_symlink(kNano, repository / "snapshots/0123abcd");
  std::ofstream(repository / "refs/main") << "0123abcd\n";
  RunOptions options;
  options.environment = {{"HF_HOME", temp.path().string()}};
  for (const std::string id : {"someone/nano", "someone/nano@main", "someone/nano@0123abcd"}) {
    const Outcome outcome = run_vl2({"info", id, "--json"}, options);
    EXPECT_EQ(outcome.exit_code, 0) << id << ": " << outcome.err;
  }
  expect_failure(run_vl2({"info", "someone/nano@v2"}, options), "info", {"someone/nano@v2", "v2", "not downloaded"});
  expect_failure(run_vl2({"info", "nobody/nothing"}, options), "info",
                 {"nobody/nothing", "models--nobody--nothing", "not downloaded"});
}

TEST(Info, APlaceWithoutAModelIsAnError) {
  const TempFolder temp;
  expect_failure(run_vl2({"info", temp.path().string()}), "info", {"config.json"});
  expect_failure(run_vl2({"info", (temp / "absent").string()}), "info", {"absent", "no such folder"});
  expect_failure(run_vl2({"info", kNano + "/config.json"}), "info", {"is a file"});
}

TEST(Info, TheProcessorReportNamesTheForcedKernels) {
  const json best = json::parse(run_vl2({"info", "--cpu", "--json"}).out);
  EXPECT_EQ(best["detected"][0], "scalar");
  for (const json& isa : best["detected"]) {
    RunOptions options;
    options.environment = {{"VL2_CPU_ISA", isa.get<std::string>()}};
    EXPECT_EQ(json::parse(run_vl2({"info", "--cpu", "--json"}, options).out)["kernels"], isa);
    EXPECT_NE(run_vl2({"info", "--cpu"}, options).out.find(isa.get<std::string>()), std::string::npos);
  }
  RunOptions unknown;
  unknown.environment = {{"VL2_CPU_ISA", "sse9"}};
  expect_failure(run_vl2({"info", "--cpu"}, unknown), "info", {"VL2_CPU_ISA=sse9"});
}

}  // namespace
}  // namespace vl2::cli_test
