// Small models of every kind against files that are committed (tests/goldens/variants), for machines without the
// official goldens. The expected values come from this project's own reference backend: see the README there.
// VL2_REGENERATE_GOLDENS=1 writes them anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <map>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "engine/model/test_variants.h"
#include "engine/model/trace_case.h"
#include "engine/model/visual_sequence.h"
#include "parity/backends.h"
#include "parity/compare_case.h"

namespace vl2::parity {
namespace {

constexpr int64_t kTextTokens = 11, kSteps = 8, kChunk = 7;
constexpr int64_t kNumTiles = 2;  // one picture: its global view and one local tile

std::filesystem::path folder() { return std::filesystem::path(source_dir()) / "tests/goldens/variants"; }
std::filesystem::path golden_file(const std::string& variant) { return folder() / (variant + ".safetensors"); }
std::filesystem::path tiles_file() { return folder() / "tiles.safetensors"; }

// Weights are made from the seed in the file, not stored; this tells whether they are still made the same way.
std::string weights_sha256(const ModelConfig& config, uint64_t seed) {
  RandomSource source(seed);
  std::string digests;
  for (const WeightSpec& spec : weight_schema(config)) {
    const TensorView tensor = source.get(spec.name, spec.shape);
    digests += sha256_hex({tensor.data, tensor.num_bytes()});
  }
  return sha256_hex({reinterpret_cast<const std::byte*>(digests.data()), digests.size()});
}

template <typename T>
TraceTensor make(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& values) {
  VL2_CHECK(num_elements(shape) * static_cast<int64_t>(dtype_size(dtype)) ==
            static_cast<int64_t>(values.size() * sizeof(T)));
  const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
  return {name, dtype, shape, {bytes, bytes + values.size() * sizeof(T)}};
}

void write(const std::filesystem::path& file, std::vector<TraceTensor> tensors,
           const std::map<std::string, std::string>& metadata) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TraceTensor& a, const TraceTensor& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);  // the format's advice
  });
  std::vector<NamedTensor> named;
  for (const TraceTensor& t : tensors) named.push_back({t.name, t.view()});
  write_safetensors(file, named, metadata);
}

// A prompt with a picture in its middle.
std::vector<TraceTensor> inputs(const ModelConfig& config, uint64_t seed) {
  Random random(seed);
  const int64_t visual = num_visual_tokens(1, 1, config.tokens_per_side()), length = kTextTokens + visual;
  std::vector<int64_t> ids, tile_ids;
  std::vector<uint8_t> mask;
  for (int64_t t = 0; t < length; ++t) {
    ids.push_back(random.below(config.language.vocab_size));
    mask.push_back(t >= 3 && t < 3 + visual);
  }
  for (int64_t t = 0; t < kNumTiles; ++t) tile_ids.push_back(t);
  return {make("input_ids", DType::kI64, {1, length}, ids),
          make("images_spatial_crop", DType::kI64, {1, 1, 2}, std::vector<int64_t>{1, 1}),
          make("tile_ids", DType::kI64, {1, kNumTiles}, tile_ids),
          make("images_seq_mask", DType::kBool, {1, length}, mask),
          make("attention_mask", DType::kBool, {1, length}, std::vector<uint8_t>(static_cast<size_t>(length), 1))};
}

// [A, R, C] -> the given rows of R.
TraceTensor keep_rows(const TraceTensor& t, const std::vector<int64_t>& rows) {
  const size_t row_bytes = static_cast<size_t>(t.shape[2]) * dtype_size(t.dtype);
  TraceTensor kept{t.name, t.dtype, {t.shape[0], static_cast<int64_t>(rows.size()), t.shape[2]}, {}};
  for (int64_t a = 0; a < t.shape[0]; ++a)
    for (int64_t r : rows) {
      const auto begin = t.bytes.begin() + static_cast<int64_t>(row_bytes) * (a * t.shape[1] + r);
      kept.bytes.insert(kept.bytes.end(), begin, begin + static_cast<int64_t>(row_bytes));
    }
  return kept;
}

// What of a trace goes into the file: a few rows of most stages, no attention weights, no logits of generation.
std::vector<TraceTensor> thin_out(const std::vector<TraceTensor>& trace, int64_t length) {
  const std::vector<int64_t> rows = {0, 3, length / 2, length - 2, length - 1}, vision_rows = {0, 8, 24};
  std::vector<TraceTensor> kept = {
      make("rows", DType::kI64, {static_cast<int64_t>(rows.size())}, rows),
      make("vision.rows", DType::kI64, {static_cast<int64_t>(vision_rows.size())}, vision_rows)};
  for (const TraceTensor& t : trace) {
    if (t.name.ends_with("attn_weights") || (t.name.starts_with("gen") && t.name.ends_with(".logits"))) continue;
    const bool sequence = t.name == "logits" || t.name == "inputs_embeds" || t.name.starts_with("hidden.") ||
                          (t.name.starts_with("layer.") && t.shape.size() == 3);
    if (sequence)
      kept.push_back(keep_rows(t, rows));
    else if (t.name.starts_with("vision."))
      kept.push_back(keep_rows(t, vision_rows));
    else
      kept.push_back(t);
  }
  return kept;
}

// The smallest distance from another choice of experts or token: rounding must not decide a golden.
float smallest_gap(const std::vector<TraceTensor>& trace) {
  float smallest = INFINITY;
  for (const TraceTensor& t : trace)
    if (t.name.ends_with(".gap") || t.name.ends_with(".margin"))
      for (float x : to_floats(t.view())) smallest = std::min(smallest, x);
  return smallest;
}

void regenerate(const std::string& variant) {
  const ModelConfig config = variant_config(variant);
  const int64_t size = config.vision.image_size;
  Random random(1);
  std::vector<uint8_t> pixels(static_cast<size_t>(kNumTiles * 3 * size * size));
  for (uint8_t& p : pixels) p = static_cast<uint8_t>(random.below(256));
  write(tiles_file(), {make("tiles_u8", DType::kU8, {kNumTiles, 3, size, size}, pixels)},
        {{"made_by", "tests/parity/variants_golden_test.cc: random bytes"}});
  for (uint64_t seed = 1; seed < 200; ++seed) {
    const TempFolder temporary;
    write(temporary / "inputs.safetensors", inputs(config, seed), {});
    const SafetensorsFile file(temporary / "inputs.safetensors"), tiles(tiles_file());
    const auto ops = backend("reference").make();
    RandomSource source(seed);
    const DeepseekVl2 model(config, *ops, source);
    TraceOptions options;
    options.generations = {{"gen", kSteps, 1.0f, {}}, {"gen_rp1.1", kSteps, 1.1f, {}}};
    options.incremental_chunk = kChunk;
    options.incremental_steps = kSteps;
    const TraceCase c = read_trace_case(file, &tiles, config);
    const std::vector<TraceTensor> trace = run_trace_case(model, c, options);
    if (smallest_gap(trace) < 2.5e-3f) continue;
    std::vector<TraceTensor> tensors = inputs(config, seed);
    for (TraceTensor& t : thin_out(trace, c.length)) tensors.push_back(std::move(t));
    write(golden_file(variant), std::move(tensors),
          {{"made_by",
            "tests/parity/variants_golden_test.cc on this project's reference backend (double inside an "
            "operation, float32 between operations); not by the official implementation"},
           {"config", "variant_config(\"" + variant + "\") of src/engine/model/test_variants.h"},
           {"weights", "RandomSource(seed) of src/engine/model/weight_source.h"},
           {"seed", std::to_string(seed)},
           {"weights_sha256", weights_sha256(config, seed)}});
    return;
  }
  fail(ErrorCode::kInternal, "{}: every seed has a near tie", variant);
}

struct VariantCase {
  std::string backend, variant;
};
std::string test_name(const testing::TestParamInfo<VariantCase>& test) {
  return test.param.backend + "_" + test.param.variant;
}
void PrintTo(const VariantCase& c, std::ostream* out) { *out << c.backend << " " << c.variant; }

class VariantGolden : public testing::TestWithParam<VariantCase> {};

TEST_P(VariantGolden, EveryStageMatchesTheCommittedOne) {
  const auto& [name, variant] = GetParam();
  if (std::getenv("VL2_REGENERATE_GOLDENS") != nullptr) {
    ASSERT_FALSE(in_ci()) << "goldens are regenerated by people";
    if (name != "reference") GTEST_SKIP() << "only the reference makes goldens";
    regenerate(variant);
    GTEST_SKIP() << "wrote " << golden_file(variant);
  }
  const SafetensorsFile golden(golden_file(variant)), tiles(tiles_file());
  const ModelConfig config = variant_config(variant);
  const uint64_t seed = std::stoull(golden.metadata().at("seed"));
  ASSERT_EQ(weights_sha256(config, seed), golden.metadata().at("weights_sha256"))
      << "the weights are not those the file was made with: the config or RandomSource has changed";
  const auto ops = backend(name).make();
  RandomSource source(seed);
  const DeepseekVl2 model(config, *ops, source);
  const CaseReport report = compare_case(model, golden, &tiles);
  const std::string table = report_table(name, variant, report);
  std::cout << table;
  EXPECT_TRUE(report.passed()) << table;
  EXPECT_EQ(report.rows_behind_ties + report.forced_steps, 0) << "the files have no near ties";
}

std::vector<VariantCase> all_cases() {
  std::vector<VariantCase> cases;
  for (const Backend& b : backends())
    for (const std::string& variant : variant_names()) cases.push_back({b.name, variant});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Backends, VariantGolden, testing::ValuesIn(all_cases()), test_name);

}  // namespace
}  // namespace vl2::parity
