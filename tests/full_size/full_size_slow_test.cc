// Checkpoints of the smallest released shape, up to 6.7 GB in shards as the releases have them, from disk to an answer.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/available_memory.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "engine/model/random_model.h"

namespace vl2 {
namespace {

using nlohmann::json;

constexpr int64_t kGiB = int64_t{1} << 30;

// What `vl2 ask` about a picture took at most, after what `vl2 info` foretells.
void expect_an_answer_within_plan(ModelFormat format, double least_of_weights) {
  const TempFolder temp(".");  // beside the build: /tmp may be memory
  if (std::filesystem::space(temp.path()).available < static_cast<uintmax_t>(10 * kGiB))
    GTEST_SKIP() << "needs 10 GiB of disk in " << std::filesystem::absolute(temp.path());
  if (available_memory().value_or(0) < 10 * kGiB) GTEST_SKIP() << "needs 10 GiB of memory";
  const std::filesystem::path folder = temp / "tiny";
  RandomModelOptions options;
  options.format = format;
  options.files_from =
      std::filesystem::path(source_dir()) / "tests/goldens/nano/model";  // its ids are few, but of this model too
  options.max_shard_bytes = 3 * static_cast<uint64_t>(kGiB);
  write_random_model(folder, preset_config("tiny"), options);
  EXPECT_TRUE(std::filesystem::exists(folder / "model.safetensors.index.json"));

  const cli_test::Outcome info = cli_test::run_vl2({"info", folder.string(), "--json"});
  ASSERT_EQ(info.exit_code, 0) << info.err;
  const json report = json::parse(info.out);
  EXPECT_NEAR(report["parameters"]["total"].get<double>(), 3.37e9, 0.05e9);

  const std::string picture = std::string(source_dir()) + "/examples/4-four-shapes.png";
  const cli_test::Outcome asked = cli_test::run_vl2(
      {"ask", "-m", folder.string(), "-i", picture, "--max-new-tokens", "8", "--json", "What is in the picture?"});
  ASSERT_EQ(asked.exit_code, 0) << asked.err;
  EXPECT_GT(json::parse(asked.out)["usage"]["completion_tokens"].get<int>(), 0);

  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);  // the largest child's
  const double peak = static_cast<double>(usage.ru_maxrss) * 1024;
  const json& memory = report["memory"];
  const double weights = memory["weights"].get<double>();
  const double kept = weights + memory["cache"].get<double>();
  const double allowed = kept + memory["activations"].get<double>();
  std::cout << fmt::format("peak {:.2f} GiB; weights, cache and activations {:.2f} GiB\n",
                           peak / static_cast<double>(kGiB), allowed / static_cast<double>(kGiB));
  EXPECT_LT(peak, 1.03 * allowed);
  EXPECT_LT(peak, 1.05 * kept);  // activations are planned for the longest context; this question is short
  EXPECT_GT(peak, least_of_weights * weights);  // else this measured something else
}

// Of mapped weights only those that were needed are in memory. First: the other's peak would hide this one's.
TEST(FullSize, AQuantisedTinyAnswersWithinWhatIsForetold) { expect_an_answer_within_plan(ModelFormat::kQ4, 0.2); }

TEST(FullSize, ATinyShapedCheckpointAnswersWithinWhatIsForetold) {
  expect_an_answer_within_plan(ModelFormat::kBf16, 0.9);
}

}  // namespace
}  // namespace vl2
