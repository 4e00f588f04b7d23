#include "train/recipe/recipe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/test_data.h"
#include "train/recipe/overrides.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string error_of(ErrorCode code, const std::function<void()>& fn) {
  try {
    fn();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

#define EXPECT_ERROR(error, text) EXPECT_NE((error).find(text), std::string::npos) << "error: " << (error)

json least() {
  return {{"name", "mine"},
          {"stage", "sft"},
          {"model", {{"init", "models/nano"}}},
          {"data", {{{"path", "a.jsonl"}}}},
          {"steps", 100},
          {"learning_rate", 1e-4},
          {"output", "runs/mine"}};
}

Recipe parse(const json& value) { return parse_recipe(value.dump(), "mine.json"); }
// The message, with `change` made to the least recipe.
std::string refused(const std::function<void(json&)>& change) {
  json value = least();
  change(value);
  return error_of(ErrorCode::kCorrupt, [&] { parse(value); });
}

TEST(Recipe, AShortOneHasTheDocumentedDefaults) {
  const Recipe r = parse(least());
  EXPECT_EQ(r.max_length, 4096);
  EXPECT_EQ(r.batch_size, 64);
  EXPECT_EQ(r.vision_lr_multiplier, 0.1);
  EXPECT_EQ(r.projector_lr_multiplier, 1);
  EXPECT_EQ(r.scheduler.type, SchedulerType::kCosine);
  EXPECT_EQ(r.scheduler.floor, 0.1);
  EXPECT_EQ(r.weight_decay, 0.1);
  EXPECT_EQ(r.beta1, 0.9);
  EXPECT_EQ(r.beta2, 0.95);
  EXPECT_EQ(r.eps, 1e-8);
  EXPECT_EQ(r.grad_clip, 1);
  EXPECT_EQ(r.compute, ComputeType::kBf16);
  EXPECT_FALSE(r.bf16_optimizer);
  EXPECT_FALSE(r.lora.has_value());
}

TEST(Recipe, TheStageSaysWhatIsFrozenPackedAndMaskedUnlessTheRecipeDoes) {
  json value = least();
  value["stage"] = "alignment";
  Recipe r = parse(value);
  EXPECT_EQ(r.freeze, std::vector<std::string>{"language"});
  EXPECT_FALSE(r.packing);
  EXPECT_FALSE(r.mask_prompt);
  value["freeze"] = json::array();
  value["packing"] = true;
  r = parse(value);
  EXPECT_TRUE(r.freeze.empty());
  EXPECT_TRUE(r.packing);
  value = least();
  value["stage"] = "pretraining";
  EXPECT_TRUE(parse(value).packing);
  EXPECT_FALSE(parse(value).mask_prompt);
  EXPECT_TRUE(parse(least()).mask_prompt);
}

TEST(Recipe, AnUnknownKeyIsAnErrorWithTheNearestName) {
  EXPECT_ERROR(refused([](json& v) { v["learning_rte"] = 1; }),
               "mine.json: learning_rte is no key that is known here; did you mean learning_rate?");
  EXPECT_ERROR(refused([](json& v) { v["model"]["intt"] = ""; }),
               "mine.json: model.intt is no key that is known here; "
               "did you mean init?");
  EXPECT_ERROR(refused([](json& v) { v["data"][0]["weigth"] = 1; }),
               "data.0.weigth is no key that is known here; did "
               "you mean weight?");
  EXPECT_ERROR(refused([](json& v) { v["recompute"]["quantum"] = 1; }), "expected language, vision_blocks");
  EXPECT_ERROR(refused([](json& v) { v["scheduler"] = {{"type", "step"}, {"floor", 0.1}}; }), "scheduler.floor");
}

TEST(Recipe, KeysThatBeginWithAnUnderscoreAreNotes) {
  json value = least();
  value["_why"] = {{"any", "thing"}};
  value["data"][0]["_note"] = 1;
  value["model"]["_note"] = nullptr;
  EXPECT_EQ(parse(value), parse(least()));
}

TEST(Recipe, TypesAndRangesAreCheckedAndTheKeysPathIsNamed) {
  EXPECT_ERROR(refused([](json& v) { v["batch_size"] = 1.5; }), "mine.json: batch_size is 1.5, expected an integer");
  EXPECT_ERROR(refused([](json& v) { v["batch_size"] = 0; }), "batch_size is 0");
  EXPECT_ERROR(refused([](json& v) { v["learning_rate"] = "1e-4"; }), "learning_rate is \"1e-4\", expected a number");
  EXPECT_ERROR(refused([](json& v) { v["learning_rate"] = 0; }), "above 0");
  EXPECT_ERROR(refused([](json& v) { v.erase("learning_rate"); }), "learning_rate is missing");
  EXPECT_ERROR(refused([](json& v) { v["betas"] = {0.9}; }), "betas");
  EXPECT_ERROR(refused([](json& v) { v["betas"] = {0.9, 1.0}; }), "betas");
  EXPECT_ERROR(refused([](json& v) { v["packing"] = 1; }), "packing is 1, expected true or false");
  EXPECT_ERROR(refused([](json& v) { v["stage"] = "sftt"; }), "one of alignment, pretraining, sft, lora");
  EXPECT_ERROR(refused([](json& v) { v["data"] = json::array(); }),
               "data is a list of 0 values, expected a list of sources");
  EXPECT_ERROR(refused([](json& v) { v["data"][0]["weight"] = 0; }), "data.0.weight is 0");
  EXPECT_ERROR(refused([](json& v) { v["data"][0].erase("path"); }), "data.0.path is missing");
  EXPECT_ERROR(refused([](json& v) { v["data"][0]["format"] = "swift"; }), "ms-swift");
  EXPECT_ERROR(refused([](json& v) { v["scheduler"] = "linear"; }), "one of cosine, step, constant");
  EXPECT_ERROR(refused([](json& v) { v["scheduler"] = {{"type", "step"}, {"at", {0.75, 0.5}}}; }), "ascending");
  EXPECT_ERROR(refused([](json& v) { v["freeze"] = {"visoin"}; }), "\"visoin\" is neither");
  EXPECT_ERROR(refused([](json& v) { v["max_length"] = nullptr; }), "max_length is null");
}

TEST(Recipe, ContradictionsAreRefused) {
  EXPECT_ERROR(refused([](json& v) { v["tokens"] = 5; }), "several of steps, tokens and epochs");
  EXPECT_ERROR(refused([](json& v) { v.erase("steps"); }), "none of steps, tokens and epochs");
  EXPECT_ERROR(refused([](json& v) { v["warmup_steps"] = 5, v["warmup_ratio"] = 0.1; }), "warmup_steps");
  EXPECT_ERROR(refused([](json& v) { v["micro_batch"] = 3; }), "a divisor of batch_size, which is 64");
  EXPECT_ERROR(refused([](json& v) { v["micro_batch"] = 32, v["replicas"] = 3; }), "at most the 2 micro-batches");
  EXPECT_ERROR(refused([](json& v) { v["optimizer"] = "sgd"; }), "muon");
  for (const char* bad : {"gpu", "cuda:", "cuda:x", "cuda:123"})
    EXPECT_ERROR(refused([&](json& v) { v["device"] = bad; }), "auto, cpu, cuda or cuda:N") << bad;
  EXPECT_ERROR(refused([](json& v) { v["model"]["config"] = "tiny"; }), "either init");
  EXPECT_ERROR(refused([](json& v) { v["model"] = json::object(); }), "either init");
  EXPECT_ERROR(refused([](json& v) { v["model"]["init_vision"] = "x"; }), "beside config only");
  EXPECT_ERROR(refused([](json& v) { v["lora"] = json::object(); }), "only the stage lora");
  EXPECT_ERROR(refused([](json& v) { v["stage"] = "lora"; }), "lora is missing");
  EXPECT_ERROR(refused([](json& v) { v["eval"]["every"] = 5; }), "eval.records is missing");
  EXPECT_ERROR(refused([](json& v) { v["stage"] = "lora", v["lora"]["targets"] = {"gate"}; }), "lora.targets");
}

TEST(Recipe, WhatIsWrittenIsReadBackTheSame) {
  json value = least();
  value["stage"] = "lora";
  value["lora"] = {{"rank", 4}, {"targets", {"q_proj", "projector"}}};
  value["scheduler"] = {{"type", "step"}, {"factor", 0.1}, {"at", {0.8, 0.9}}};
  value["warmup_ratio"] = 0.03;
  value["eval"] = {{"every", 10}, {"records", "r.jsonl"}};
  value["no_decay"] = {"*.pos_embed"};
  const Recipe recipe = parse(value);
  EXPECT_EQ(parse_recipe(recipe_json(recipe), "again"), recipe);
  EXPECT_NE(parse(least()), recipe);
}

TEST(Recipe, TheCommandLineOverridesTheFile) {
  const std::vector<std::string> overrides = {"learning_rate=3e-4", "data.0.path=b.jsonl",     "data.1.path=c.jsonl",
                                              "data.1.weight=2",    "recompute.language=true", "steps=",
                                              "epochs=1.5",         "freeze=[\"vision\"]"};
  const Recipe r = parse_recipe(least().dump(), "mine.json", overrides);
  EXPECT_EQ(r.learning_rate, 3e-4);
  ASSERT_EQ(r.data.size(), 2u);
  EXPECT_EQ(r.data[0].path, "b.jsonl");
  EXPECT_EQ(r.data[1].path, "c.jsonl");
  EXPECT_EQ(r.data[1].weight, 2);
  EXPECT_TRUE(r.recompute.language);
  EXPECT_FALSE(r.steps.has_value());
  EXPECT_EQ(r.epochs, 1.5);
  EXPECT_EQ(r.freeze, std::vector<std::string>{"vision"});
  // An unknown key is as wrong here as in the file.
  EXPECT_ERROR(error_of(ErrorCode::kCorrupt,
                        [] { parse_recipe(least().dump(), "mine.json", std::vector<std::string>{"lerning_rate=1"}); }),
               "did you mean learning_rate?");
}

TEST(Recipe, AMalformedOverrideIsRefused) {
  for (const char* bad : {"learning_rate", "=3", "data.7.path=x", "data.x.path=x", "a..b=1", "name.x=1"}) {
    json root = least();
    EXPECT_ERROR(error_of(ErrorCode::kInvalidArgument, [&] { apply_override(root, bad, "mine.json"); }), bad);
  }
}

TEST(Recipe, StepsFollowFromTokensOrEpochs) {
  json value = least();
  value["batch_size"] = 10;
  value["max_length"] = 100;
  EXPECT_EQ(resolve_steps(parse(value), {}), 100);
  value.erase("steps");
  value["tokens"] = 10000;
  EXPECT_EQ(resolve_steps(parse(value), {}), 10);
  EXPECT_EQ(resolve_steps(parse(value), {500, 50.0}), 20);
  value["tokens"] = 10001;
  EXPECT_EQ(resolve_steps(parse(value), {}), 11);
  value.erase("tokens");
  value["epochs"] = 2.5;
  EXPECT_EQ(resolve_steps(parse(value), {41, 0}), 11);  // 102.5 sequences of 10
  EXPECT_EQ(resolve_steps(parse(value), {1, 0}), 1);
}

TEST(Recipe, WarmUpIsTwoPercentAndAtLeastAHundredStepsOfALongRun) {
  const Recipe silent = parse(least());
  EXPECT_EQ(resolve_warmup(silent, 100000), 2000);
  EXPECT_EQ(resolve_warmup(silent, 2000), 100);
  EXPECT_EQ(resolve_warmup(silent, 300), 30);
  EXPECT_EQ(resolve_warmup(silent, 1), 0);
  json value = least();
  value["warmup_ratio"] = 0.1;
  EXPECT_EQ(resolve_warmup(parse(value), 100), 10);
  value.erase("warmup_ratio");
  value["warmup_steps"] = 7;
  EXPECT_EQ(resolve_warmup(parse(value), 100), 7);
  EXPECT_EQ(resolve_warmup(parse(value), 3), 3);
}

// Table 2 of the paper, typed here a second time.
struct PaperRow {
  const char* recipe;
  double learning_rate;
  SchedulerType scheduler;
  double tokens;
  int64_t batch;
  double aux, bias_step;
  bool bf16_optimizer;
};
constexpr auto kCos = SchedulerType::kCosine, kStep = SchedulerType::kStep, kConst = SchedulerType::kConstant;
constexpr PaperRow kTable2[] = {
    {"tiny_alignment", 5.4e-4, kCos, 2.0e9, 256, 0.001, 0, false},
    {"tiny_pretraining", 5.4e-4, kStep, 798.5e9, 2304, 0.001, 0, false},
    {"tiny_sft", 3.0e-5, kConst, 19.5e9, 64, 0.001, 0, false},
    {"small_alignment", 4.2e-4, kCos, 2.0e9, 256, 0.001, 0, false},
    {"small_pretraining", 4.2e-4, kStep, 808.9e9, 2304, 0.001, 0, false},
    {"small_sft", 1.4e-5, kConst, 20.0e9, 64, 0.001, 0, false},
    {"base_alignment", 4.5e-4, kCos, 2.0e9, 256, 0.0001, 0, true},
    {"base_pretraining", 4.5e-4, kStep, 796.5e9, 3360, 0.0001, 0.001, true},
    {"base_sft", 2e-5, kConst, 19.5e9, 64, 0.0001, 0, true},
};

fs::path recipes() { return fs::path(source_dir()) / "src/train/recipes"; }

TEST(Recipes, HoldTheNumbersOfThePapersTable) {
  for (const PaperRow& row : kTable2) {
    SCOPED_TRACE(row.recipe);
    const Recipe r = load_recipe(recipes() / fmt::format("{}.json", row.recipe));
    const bool alignment = r.stage == Stage::kAlignment;
    EXPECT_EQ(r.name, row.recipe);
    EXPECT_DOUBLE_EQ(r.learning_rate, row.learning_rate);
    EXPECT_EQ(r.scheduler.type, row.scheduler);
    EXPECT_NEAR(r.scheduler.factor, 1 / std::sqrt(10.0), 1e-15);
    EXPECT_EQ(r.scheduler.at, (std::vector<double>{0.5, 0.75}));
    EXPECT_EQ(static_cast<double>(r.tokens.value()), row.tokens);
    EXPECT_EQ(r.batch_size, row.batch);
    EXPECT_EQ(r.aux_loss_alpha, row.aux);
    EXPECT_EQ(r.expert_bias_step, row.bias_step);
    EXPECT_EQ(r.bf16_optimizer, row.bf16_optimizer);
    EXPECT_EQ(r.vision_lr_multiplier, 0.1);
    EXPECT_EQ(r.weight_decay, 0.1);
    EXPECT_EQ(r.grad_clip, 1.0);
    EXPECT_EQ(r.beta1, 0.9);
    EXPECT_EQ(r.beta2, 0.95);
    EXPECT_EQ(r.max_length, 4096);
    EXPECT_EQ(r.packing, !alignment);
    EXPECT_EQ(r.freeze, alignment ? std::vector<std::string>{"language"} : std::vector<std::string>{});
    EXPECT_EQ(r.mask_prompt, r.stage == Stage::kSft);
  }
}

TEST(Recipes, EveryFileOfTheFolderIsReadAndNamedAfterItself) {
  std::map<std::string, Recipe> found;
  for (const auto& entry : fs::directory_iterator(recipes())) {
    if (entry.is_directory()) continue;  // nano's config
    const Recipe recipe = load_recipe(entry.path());
    EXPECT_EQ(recipe.name, entry.path().stem().string());
    found[recipe.name] = recipe;
  }
  EXPECT_EQ(found.size(), 13u);
  const Recipe& lora = found.at("lora_sft");
  EXPECT_EQ(lora.stage, Stage::kLora);
  EXPECT_EQ(lora.lora.value().rank, 8);
  EXPECT_EQ(lora.lora.value().alpha, 32);
  EXPECT_EQ(lora.learning_rate, 1e-4);
  for (const char* name : {"nano_alignment", "nano_pretraining", "nano_sft"}) EXPECT_EQ(found.count(name), 1u) << name;
}

}  // namespace
}  // namespace vl2::train
