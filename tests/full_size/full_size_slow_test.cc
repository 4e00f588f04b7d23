// A checkpoint of the smallest released shape, 6.7 GB in shards as the releases have them, from disk to an answer.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/checkpoint.h"
#include "engine/model/weight_source.h"
#include "engine/runtime/available_memory.h"

namespace vl2 {
namespace {

using nlohmann::json;

constexpr int64_t kGiB = int64_t{1} << 30;

// Weights from a seed, config.json of the shape, and nano's tokenizer: its ids are few, but ids of this model too.
void write_model(const std::filesystem::path& folder, const ModelConfig& config) {
  const std::vector<WeightSpec> schema = weight_schema(config);
  RandomSource source(1);
  write_sharded(
      folder, tensor_headers(schema, DType::kBF16),
      [&](const TensorHeader& header, std::span<std::byte> bytes) {
        const TensorView values = source.get(header.name, header.shape);
        std::memcpy(bytes.data(), values.data, bytes.size());
      },
      3 * static_cast<uint64_t>(kGiB));
  write_file_atomic(folder / "config.json", model_config_json(config));
  const std::filesystem::path nano = std::filesystem::path(source_dir()) / "models/nano";
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "processor_config.json"})
    std::filesystem::copy_file(nano / name, folder / name);
}

TEST(FullSize, ATinyShapedCheckpointAnswersWithinItsWeightsAndCache) {
  const TempFolder temp(".");  // beside the build: /tmp may be memory
  if (std::filesystem::space(temp.path()).available < static_cast<uintmax_t>(10 * kGiB))
    GTEST_SKIP() << "needs 10 GiB of disk in " << std::filesystem::absolute(temp.path());
  if (available_memory().value_or(0) < 10 * kGiB) GTEST_SKIP() << "needs 10 GiB of memory";
  const std::filesystem::path folder = temp / "tiny";
  write_model(folder, preset_config("tiny"));
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
  const double allowed = report["memory"]["weights"].get<double>() + report["memory"]["cache"].get<double>();
  std::cout << fmt::format("peak {:.2f} GiB; weights and cache {:.2f} GiB\n", peak / static_cast<double>(kGiB),
                           allowed / static_cast<double>(kGiB));
  EXPECT_LT(peak, 1.05 * allowed);
  EXPECT_GT(peak, 0.9 * report["memory"]["weights"].get<double>());  // else this measured something else
}

}  // namespace
}  // namespace vl2
