#include "engine/model/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/base/random.h"
#include "engine/cpu/cpu_ops.h"
#include "engine/model/test_variants.h"
#include "engine/model/visual_sequence.h"

namespace vl2 {
namespace {

std::unique_ptr<Ops> two_threads() {
  CpuOptions options;
  options.threads = 2;
  return make_cpu_ops(options);
}

class NoStorage : public WeightStorage {
 public:
  int64_t num_bytes() const override { return 0; }
};

Weight matrix(int64_t out, int64_t in) { return {std::make_shared<NoStorage>(), out, in}; }

void feed(InputSquares& squares, const Weight& w, std::vector<float> rows) {
  const auto cols = static_cast<int64_t>(w.in);
  squares.input(w, {rows.data(), static_cast<int64_t>(rows.size()) / cols, 1, cols, cols, cols});
}

TEST(InputSquares, AreRootMeansOfEveryColumnOfWhatIsWatched) {
  InputSquares squares;
  const Weight watched = matrix(5, 2), other = matrix(5, 2), unused = matrix(5, 2);
  squares.watch("a", watched);
  squares.watch("c", unused);
  feed(squares, watched, {1, 2, 3, 0});
  feed(squares, watched, {1, 4});
  feed(squares, other, {100, 100});
  const auto means = squares.importance();
  ASSERT_EQ(means.size(), 1u) << "of what met nothing, nothing is known";
  EXPECT_NEAR(means.at("a")[0], std::sqrt(11.0 / 3), 0.01);
  EXPECT_NEAR(means.at("a")[1], std::sqrt(20.0 / 3), 0.01);
}

TEST(InputSquares, AColumnOfZerosStillCountsALittle) {
  InputSquares squares;
  const Weight w = matrix(5, 2);
  squares.watch("a", w);
  feed(squares, w, {3, 0});
  const std::vector<float> mean = squares.importance().at("a");
  EXPECT_GT(mean[1], 0);
  EXPECT_LT(mean[1], 0.05f * mean[0]);
}

TEST(InputSquares, AnExpertThatMetFewTokensTakesAfterItsLayer) {
  const std::string layer = "language.model.layers.1.mlp.experts.";
  InputSquares squares;
  const Weight busy = matrix(4, 2), idle = matrix(4, 2), busy_down = matrix(4, 2), idle_down = matrix(4, 2);
  squares.watch(layer + "0.gate_proj.weight", busy);
  squares.watch(layer + "1.gate_proj.weight", idle);
  squares.watch(layer + "0.down_proj.weight", busy_down);
  squares.watch(layer + "1.down_proj.weight", idle_down);
  for (int i = 0; i < 3200; ++i) {
    feed(squares, busy, {3, 1});
    feed(squares, busy_down, {3, 1});
  }
  const auto means = squares.importance();
  EXPECT_NEAR(means.at(layer + "0.gate_proj.weight")[0], 3, 0.03);
  EXPECT_NEAR(means.at(layer + "1.gate_proj.weight")[0], 3, 0.03) << "the same tokens could come to it";
  EXPECT_NEAR(means.at(layer + "1.gate_proj.weight")[1], 1, 0.03);
  EXPECT_NEAR(means.at(layer + "0.down_proj.weight")[0], 3, 0.03);
  EXPECT_NEAR(means.at(layer + "1.down_proj.weight")[0], std::sqrt(5.0), 0.03)
      << "its columns are not another expert's";
  EXPECT_NEAR(means.at(layer + "1.down_proj.weight")[1], std::sqrt(5.0), 0.03);
}

SequenceInput picture_and_text(const ModelConfig& config) {
  SequenceInput s;
  Random random(3);
  const int64_t visual = num_visual_tokens(1, 1, config.tokens_per_side());
  for (int64_t t = 0; t < visual + 30; ++t)
    s.ids.push_back(static_cast<int32_t>(random.below(config.language.vocab_size)));
  s.is_image.assign(s.ids.size(), false);
  std::fill_n(s.is_image.begin() + 2, visual, true);
  s.images = {{1, 1}};
  s.pixels.resize(static_cast<size_t>(2 * 3 * config.vision.image_size * config.vision.image_size));
  for (float& p : s.pixels) p = random.symmetric();
  return s;
}

std::vector<float> logits_of(const DeepseekVl2& model, const SequenceInput& input) {
  return SequenceRunner(model, {input}, 0).step_all(SequenceRunner::Logits::kAll);
}

TEST(Calibration, AModelThatIsListenedToAnswersTheSame) {
  for (const std::string& variant : variant_names()) {
    SCOPED_TRACE(variant);
    const ModelConfig config = variant_config(variant);
    const auto ops = two_threads();
    RandomSource source(1);
    const DeepseekVl2 model(config, *ops, source);
    const SequenceInput input = picture_and_text(config);
    const std::vector<float> alone = logits_of(model, input);
    InputSquares squares;
    ops->set_input_tap(&squares);
    const std::vector<float> listened = logits_of(model, input);
    ASSERT_EQ(alone.size(), listened.size());
    double error = 0, square = 0;
    for (size_t i = 0; i < alone.size(); ++i) {
      error += std::pow(double{alone[i]} - double{listened[i]}, 2);
      square += std::pow(double{alone[i]}, 2);
    }
    EXPECT_LT(std::sqrt(error / square), 1e-4) << "sums in another order, and nothing else";
  }
}

TEST(Calibration, EveryMatrixOfFourBitsHasAnImportanceOfItsColumns) {
  for (const std::string& variant : variant_names())
    for (const ModelFormat format : {ModelFormat::kQ4, ModelFormat::kMixed, ModelFormat::kQ8}) {
      SCOPED_TRACE(variant + " " + std::string(model_format_name(format)));
      const ModelConfig config = variant_config(variant);
      const auto ops = two_threads();
      RandomSource source(1);
      Calibration calibration(config, format, *ops, source);
      calibration.run(picture_and_text(config));
      const auto importance = calibration.importance();
      std::set<std::string> expected;
      for (const WeightSpec& spec : weight_schema(config)) {
        if (panel_format_of(format, spec, config) != PanelFormat::kQ4) continue;
        expected.insert(spec.name);
        ASSERT_TRUE(importance.contains(spec.name)) << spec.name;
        EXPECT_EQ(static_cast<int64_t>(importance.at(spec.name).size()), spec.shape[1]) << spec.name;
      }
      EXPECT_EQ(importance.size(), expected.size());
    }
}

TEST(Calibration, StopsBetweenChunks) {
  const ModelConfig config = variant_config("small");
  const auto ops = two_threads();
  RandomSource source(1);
  Calibration calibration(config, ModelFormat::kQ4, *ops, source);
  int asked = 0;
  try {
    calibration.run(picture_and_text(config), [&asked] { return ++asked == 2; });
    ADD_FAILURE() << "ran on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
}

}  // namespace
}  // namespace vl2
