#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/safetensors.h"

namespace vl2::cli_test {
namespace {

const std::string kNano = std::string(source_dir()) + "/tests/goldens/nano/model";

// A case of text and of one picture for any model with 384-pixel tiles: ids 3, 4, 5, ... and 421 rows of a picture.
void write_case(const std::filesystem::path& path, bool picture) {
  std::vector<int64_t> ids = {0}, crop = {0, 0}, tile_ids = {-1, -1};
  std::vector<uint8_t> image_mask = {0};
  if (picture) {
    crop = {1, 1};
    tile_ids = {0, 1};
    ids.insert(ids.end(), 421, 446);
    image_mask.insert(image_mask.end(), 421, 1);
  }
  for (int64_t id = 3; id < 10; ++id) ids.push_back(id);
  image_mask.resize(ids.size());
  const std::vector<uint8_t> attention_mask(ids.size(), 1);
  const auto length = static_cast<int64_t>(ids.size());
  const auto bytes = [](const auto& values) { return reinterpret_cast<const std::byte*>(values.data()); };
  const std::vector<NamedTensor> tensors = {
      {"input_ids", {bytes(ids), DType::kI64, {1, length}}},
      {"images_spatial_crop", {bytes(crop), DType::kI64, {1, 1, 2}}},
      {"tile_ids", {bytes(tile_ids), DType::kI64, {1, 2}}},
      {"images_seq_mask", {bytes(image_mask), DType::kBool, {1, length}}},
      {"attention_mask", {bytes(attention_mask), DType::kBool, {1, length}}},
  };
  write_safetensors(path, tensors);
}

void write_tiles(const std::filesystem::path& path) {
  std::vector<uint8_t> pixels(2 * 3 * 384 * 384);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<uint8_t>(i * 7 % 251);
  const std::vector<NamedTensor> tensors = {
      {"tiles_u8", {reinterpret_cast<const std::byte*>(pixels.data()), DType::kU8, {2, 3, 384, 384}}}};
  write_safetensors(path, tensors);
}

double largest_difference(const TensorView& a, const TensorView& b) {
  EXPECT_EQ(a.shape, b.shape);
  const std::vector<float> x = to_floats(a), y = to_floats(b);
  double most = 0;
  for (size_t i = 0; i < x.size(); ++i) most = std::max(most, std::abs(double{x[i]} - double{y[i]}));
  return most;
}

TEST(TraceGolden, EveryStageOfACaseIsWrittenWholeUnderItsName) {
  VL2_NEED_SHARED(shared);
  const TempFolder temp;
  const std::filesystem::path golden_file = shared / "golden/cases/b_small_mla/img11.safetensors";
  for (const std::string backend : {"reference", "cpu"}) {
    SCOPED_TRACE(backend);
    const Outcome outcome =
        run_vl2({"trace", "-m", (shared / "golden/models/b_small_mla").string(), "--case", golden_file.string(),
                 "--tiles", (shared / "golden/tiles.safetensors").string(), "-o", (temp / "out.safetensors").string(),
                 "--backend", backend, "--compute", backend == "cpu" ? "f32" : "auto", "--generate", "24"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    const SafetensorsFile golden(golden_file), got(temp / "out.safetensors");
    EXPECT_NE(got.metadata().at("backend").find(backend), std::string::npos);
    for (const auto& [name, tensor] : golden.tensors()) {
      const bool not_a_stage = name.ends_with("rows") || name == "tile_ids" || name.starts_with("incremental.") ||
                               name.starts_with("gen_rp");
      if (not_a_stage) continue;
      EXPECT_NE(got.find(name), nullptr) << name;
    }
    EXPECT_EQ(got.at("vision.block.0").shape, (Shape{2, 729, 80}));
    EXPECT_EQ(got.at("logits").shape, (Shape{1, 451, 512}));
    EXPECT_LT(largest_difference(got.at("hidden.4"), golden.at("hidden.4")), 4e-4);
    EXPECT_LT(largest_difference(got.at("projector.out"), golden.at("projector.out")), 5e-5);
    EXPECT_LT(largest_difference(got.at("gen.logits"), golden.at("gen.logits")), 6e-4);
    const TensorView &tokens = got.at("gen.tokens"), &expected = golden.at("gen.tokens");
    ASSERT_EQ(tokens.shape, expected.shape);
    EXPECT_TRUE(std::equal(tokens.as<int64_t>(), tokens.as<int64_t>() + tokens.size(), expected.as<int64_t>()));
    for (const char* input : {"input_ids", "images_spatial_crop"}) {
      const TensorView &a = got.at(input), &b = golden.at(input);
      ASSERT_EQ(a.shape, b.shape);
      EXPECT_TRUE(std::equal(a.as<int64_t>(), a.as<int64_t>() + a.size(), b.as<int64_t>())) << input;
    }
  }
}

TEST(Trace, TextAndAPictureRunOnTheShippedModel) {
  const TempFolder temp;
  write_tiles(temp / "tiles.safetensors");
  for (const bool picture : {false, true}) {
    write_case(temp / "case.safetensors", picture);
    std::vector<std::string> arguments = {"trace",
                                          "--case",
                                          (temp / "case.safetensors").string(),
                                          "-o",
                                          (temp / "out.safetensors").string(),
                                          "--generate",
                                          "2",
                                          "--threads",
                                          "1"};
    if (picture) arguments.insert(arguments.end(), {"--tiles", (temp / "tiles.safetensors").string()});
    const Outcome outcome = run_vl2(arguments);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    const SafetensorsFile got(temp / "out.safetensors");
    EXPECT_EQ(got.at("gen.tokens").shape, (Shape{1, 2}));
    EXPECT_NE(got.find("layer.0.attn_out"), nullptr);
    EXPECT_EQ(got.find("vision.out") != nullptr, picture);
  }
  const Outcome brief = run_vl2({"trace", "--case", (temp / "case.safetensors").string(), "--tiles",
                                 (temp / "tiles.safetensors").string(), "-o", (temp / "brief.safetensors").string(),
                                 "--no-layer-details"});
  ASSERT_EQ(brief.exit_code, 0) << brief.err;
  EXPECT_EQ(SafetensorsFile(temp / "brief.safetensors").find("layer.0.attn_out"), nullptr);
}

TEST(Trace, AnOrdinaryQuestionGivesTheTokensOfItsAnswer) {
  const TempFolder temp;
  const nlohmann::json answers =
      nlohmann::json::parse(read_file(std::string(source_dir()) + "/tests/goldens/nano/answers.json"));
  const nlohmann::json& golden = answers[1];
  const std::string picture = std::string(source_dir()) + "/tests/goldens/nano/" + golden["image"].get<std::string>();
  const nlohmann::json request = {
      {"messages",
       {{{"role", "user"}, {"content", "<image>\n" + golden["question"].get<std::string>()}, {"images", {picture}}},
        {{"role", "assistant"}, {"content", ""}}}}};
  const auto answer = golden["answer_ids"].get<std::vector<int64_t>>();
  RunOptions options;
  options.input = request.dump();
  const Outcome outcome = run_vl2({"trace", "--request", "-", "-o", (temp / "out.safetensors").string(), "--generate",
                                   std::to_string(answer.size()), "--compute", "f32"},
                                  options);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const SafetensorsFile got(temp / "out.safetensors");
  const auto prompt = golden["prompt_ids"].get<std::vector<int64_t>>();
  const TensorView &ids = got.at("input_ids"), &tokens = got.at("gen.tokens");
  EXPECT_EQ(std::vector<int64_t>(ids.as<int64_t>(), ids.as<int64_t>() + ids.size()), prompt);
  EXPECT_EQ(std::vector<int64_t>(tokens.as<int64_t>(), tokens.as<int64_t>() + tokens.size()), answer);
}

TEST(Trace, WhatCannotBeReadOrWrittenIsAnErrorAndLeavesNothing) {
  const TempFolder temp;
  write_case(temp / "case.safetensors", true);
  write_tiles(temp / "tiles.safetensors");
  const std::string good_case = (temp / "case.safetensors").string(), tiles = (temp / "tiles.safetensors").string(),
                    out = (temp / "out.safetensors").string();
  expect_failure(run_vl2({"trace", "--case", good_case, "--tiles", tiles, "-o", (temp / "no/out").string()}), "trace",
                 {"no/out", "cannot write"});
  expect_failure(run_vl2({"trace", "--case", good_case, "--tiles", tiles, "-o", temp.path().string()}), "trace",
                 {"is a folder"});
  expect_failure(run_vl2({"trace", "--case", (temp / "absent").string(), "--tiles", tiles, "-o", out}), "trace",
                 {"absent"});
  expect_failure(run_vl2({"trace", "--case", tiles, "--tiles", tiles, "-o", out}), "trace", {"input_ids"});
  expect_failure(run_vl2({"trace", "--case", good_case, "-o", out}), "trace", {"tile"});
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"case.safetensors", "tiles.safetensors"}));
}

}  // namespace
}  // namespace vl2::cli_test
