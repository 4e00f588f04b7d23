#include "train/loop/run.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/lora.h"
#include "core/image/encode.h"
#include "core/model_spec/model_config.h"
#include "train/log/json_log.h"
#include "train/loop/answer_file.h"
#include "train/model/parameters.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// A folder with a tiny model's config, the tokenizer that ships with the source, and pictures of one colour with
// questions about it.
class TrainingRun : public testing::Test {
 protected:
  void SetUp() override {
    ModelConfig config = preset_config("test-small");
    config.language.vocab_size = 454;
    config.language.bos_token_id = 0;
    config.language.eos_token_id = 1;
    fs::create_directories(folder_ / "model");
    write_file_atomic(folder_ / "model" / "config.json", model_config_json(config));
    const fs::path nano = fs::path(source_dir()) / "tests/goldens/nano/model";
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
      fs::copy_file(nano / name, folder_ / "model" / name);
    Json processor = Json::parse(read_file(nano / "processor_config.json"));
    processor["candidate_resolutions"] = config.candidate_resolutions;
    processor["patch_size"] = config.vision.patch_size;
    processor["downsample_ratio"] = config.projector.downsample_ratio;
    write_file_atomic(folder_ / "model" / "processor_config.json", processor.dump());

    const std::pair<const char*, std::array<uint8_t, 3>> colours[] = {
        {"red", {220, 30, 30}}, {"blue", {30, 30, 220}}, {"green", {30, 200, 30}}};
    std::string lines;
    for (int i = 0; i < 12; ++i) {
      const auto& [name, rgb] = colours[i % 3];
      const Image image = make_image(40 + i, 30, rgb[0], rgb[1], rgb[2]);
      const std::string file = fmt::format("{}.png", i);
      write_file_atomic(folder_ / file, encode_png(image));
      lines +=
          Json{{"id", fmt::format("record-{}", i)},
               {"messages",
                {{{"role", "user"}, {"content", "<image>\nWhat colour?"}}, {{"role", "assistant"}, {"content", name}}}},
               {"images", {file}}}
              .dump() +
          "\n";
    }
    write_file_atomic(folder_ / "records.jsonl", lines);
  }

  Json recipe(const std::string& output) const {
    return {{"name", "test"},
            {"stage", "sft"},
            {"model", {{"config", (folder_ / "model").string()}, {"init_seed", 5}}},
            {"data", {{{"path", (folder_ / "records.jsonl").string()}}}},
            {"max_length", 256},
            {"batch_size", 4},
            {"micro_batch", 2},
            {"steps", 8},
            {"learning_rate", 2e-3},
            {"vision_lr_multiplier", 1},
            {"warmup_steps", 2},
            {"compute", "fp32"},
            {"threads", 1},
            {"save_every", 3},
            {"keep", 2},
            {"output", (folder_ / output).string()}};
  }

  RunSummary run(const Json& json, const RunHooks& hooks = {}) const {
    return run_training(parse_recipe(json.dump(), "recipe"), hooks);
  }

  static RunHooks stop_when(std::function<bool()> stop) {
    RunHooks hooks;
    hooks.stop = std::move(stop);
    return hooks;
  }

  std::vector<double> losses(const std::string& output) const {
    return read_log(folder_ / output / "log.jsonl", "loss", "loss").values;
  }

  std::string weights(const std::string& output) const {
    return read_file(folder_ / output / "latest" / "model-00001-of-000001.safetensors");
  }

  TempFolder folder_;
};

TEST_F(TrainingRun, AStoppedRunGoesOnWithTheLossesOfOneThatWasNot) {
  for (const bool bf16_optimizer : {false, true}) {
    const std::string suffix = bf16_optimizer ? "_bf16" : "";
    Json whole = recipe("whole" + suffix), parts = recipe("parts" + suffix);
    whole["bf16_optimizer"] = parts["bf16_optimizer"] = bf16_optimizer;
    EXPECT_EQ(run(whole).last_step, 8);
    int asked = 0;
    const RunSummary first = run(parts, stop_when([&] { return ++asked > 5; }));
    EXPECT_TRUE(first.stopped);
    EXPECT_EQ(first.last_step, 5);
    std::string said;
    RunHooks listen;
    listen.say = [&](const std::string& line) { said += line + "\n"; };
    const RunSummary second = run(parts, listen);
    EXPECT_EQ(second.first_step, 5);
    EXPECT_EQ(second.last_step, 8);
    EXPECT_NE(said.find("step-000005"), std::string::npos) << said;
    EXPECT_EQ(losses("whole" + suffix), losses("parts" + suffix));
    EXPECT_EQ(losses("whole" + suffix).size(), 8u);
    EXPECT_EQ(weights("whole" + suffix), weights("parts" + suffix));
  }
}

TEST_F(TrainingRun, ACheckpointIsAModelFolder) {
  const RunSummary summary = run(recipe("run"));
  EXPECT_LT(losses("run").back(), losses("run").front());
  const fs::path folder = summary.checkpoint;
  EXPECT_EQ(fs::canonical(folder_ / "run" / "latest"), fs::canonical(folder));
  const ModelConfig config = load_model_config(folder / "config.json");
  EXPECT_NO_THROW(Checkpoint(folder).check(config));
  EXPECT_TRUE(fs::exists(folder / "tokenizer.json"));
  EXPECT_TRUE(fs::exists(folder / "processor_config.json"));
  int64_t folders = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "run"))
    folders += entry.path().filename().string().starts_with("step-") ? 1 : 0;
  EXPECT_EQ(folders, 2) << "keep";
}

TEST_F(TrainingRun, AFinishedRunIsLeftAsItIs) {
  run(recipe("run"));
  const std::string before = weights("run");
  const RunSummary again = run(recipe("run"));
  EXPECT_EQ(again.first_step, 8);
  EXPECT_EQ(again.last_step, 8);
  EXPECT_EQ(weights("run"), before);
}

TEST_F(TrainingRun, BadRecordsAreLeftOutAndListed) {
  std::string lines = read_file(folder_ / "records.jsonl");
  lines +=
      R"({"messages":[{"role":"user","content":"<image>\nWhat?"},{"role":"assistant","content":"x"}],"images":["none.png"]})"
      "\nno json\n";
  write_file_atomic(folder_ / "records.jsonl", lines);
  Json json = recipe("run");
  run(json);
  const std::string report = read_file(folder_ / "run" / "left_out.txt");
  EXPECT_NE(report.find("records.jsonl:13"), std::string::npos) << report;
  EXPECT_NE(report.find("records.jsonl:14"), std::string::npos) << report;
  json["bad_records"] = "refuse";
  json["output"] = (folder_ / "strict").string();
  EXPECT_THROW(run(json), Error);
}

TEST_F(TrainingRun, LoraTrainsAnAdapterAndLeavesTheModel) {
  run(recipe("base"));
  Json json = recipe("lora");
  json["stage"] = "lora";
  json["model"] = {{"init", (folder_ / "base" / "latest").string()}};
  json["lora"] = {{"rank", 4}, {"alpha", 8}, {"dropout", 0.1}};
  json["learning_rate"] = 1e-2;
  int asked = 0;
  run(json, stop_when([&] { return ++asked > 4; }));
  const RunSummary summary = run(json);
  EXPECT_EQ(summary.first_step, 4);
  EXPECT_LT(losses("lora").back(), losses("lora").front());
  const LoraAdapter adapter(summary.checkpoint);
  EXPECT_NO_THROW(adapter.check(load_model_config(folder_ / "base" / "latest" / "config.json")));
  EXPECT_EQ(adapter.config().rank, 4);
  Json whole = json;
  whole["output"] = (folder_ / "lora_whole").string();
  run(whole);
  EXPECT_EQ(losses("lora"), losses("lora_whole"));

  answer_file({.model = folder_ / "base" / "latest",
               .records = folder_ / "records.jsonl",
               .output = folder_ / "answers.jsonl",
               .lora = summary.checkpoint,
               .max_tokens = 3,
               .threads = 1});
  std::istringstream answers(read_file(folder_ / "answers.jsonl"));
  int64_t count = 0;
  for (std::string line; std::getline(answers, line); ++count)
    EXPECT_TRUE(Json::parse(line).contains("answer")) << line;
  EXPECT_EQ(count, 12);
}

TEST_F(TrainingRun, TooManyStepsThatAreNotFiniteEndIt) {
  const fs::path broken = folder_ / "broken";
  fs::copy(folder_ / "model", broken);
  Parameters parameters = Parameters::random(load_model_config(broken / "config.json"), {.seed = 1, .stddev = 0.02});
  {
    const c10::NoGradGuard no_grad;
    parameters.tensor("language.lm_head.weight").fill_(std::numeric_limits<float>::infinity());
  }
  parameters.save(broken, DType::kF32);
  Json json = recipe("run");
  json["model"] = {{"init", broken.string()}};
  json["max_bad_steps"] = 3;
  try {
    run(json);
    FAIL() << "went on";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("3 steps in a row"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("record-"), std::string::npos) << error.what();
  }
}

TEST_F(TrainingRun, QuestionsAreAnsweredOnTheWay) {
  Json json = recipe("run");
  json["eval"] = {{"every", 4}, {"records", (folder_ / "records.jsonl").string()}, {"count", 3}};
  run(json);
  std::istringstream lines(read_file(folder_ / "run" / "samples" / "step-000004.jsonl"));
  int64_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json answer = Json::parse(line);
    EXPECT_EQ(answer["id"], fmt::format("record-{}", count));
    EXPECT_TRUE(answer["answer"].is_string());
  }
  EXPECT_EQ(count, 3);
}

TEST_F(TrainingRun, AHeldOutRecordThatCannotBeAskedEndsNothing) {
  write_file_atomic(folder_ / "held_out.jsonl",
                    R"({"messages":[{"role":"user","content":"<image>\nWhat?"}],"images":["none.png"]})"
                    "\nno json\n"
                    R"({"id":"good","messages":[{"role":"user","content":"What?"},{"role":"assistant","content":"x"}]})"
                    "\n");
  Json json = recipe("run");
  json["eval"] = {{"every", 8}, {"records", (folder_ / "held_out.jsonl").string()}, {"count", 3}};
  std::string said;
  RunHooks listen;
  listen.say = [&](const std::string& line) { said += line + "\n"; };
  EXPECT_EQ(run(json, listen).last_step, 8);
  EXPECT_NE(said.find("none.png"), std::string::npos) << said;
  EXPECT_NE(said.find("held_out.jsonl:2"), std::string::npos) << said;
  EXPECT_NE(read_file(folder_ / "run" / "samples" / "step-000008.jsonl").find("good"), std::string::npos);
  json["eval"]["records"] = (folder_ / "absent.jsonl").string();
  json["output"] = (folder_ / "other").string();
  EXPECT_THROW(run(json), Error);
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

TEST_F(TrainingRun, FrozenPartsStayAsTheyWere) {
  run(recipe("base"));
  Json json = recipe("run");
  json["model"] = {{"init", (folder_ / "base" / "latest").string()}};
  json["freeze"] = {"language"};
  run(json);
  const Checkpoint before(folder_ / "base" / "latest"), after(folder_ / "run" / "latest");
  int64_t same = 0, changed = 0;
  for (const std::string& name : before.names()) {
    const TensorView &a = before.at(name), &b = after.at(name);
    const bool equal = std::equal(a.data, a.data + a.num_bytes(), b.data);
    EXPECT_TRUE(equal || !name.starts_with("language.")) << name;
    (equal ? same : changed)++;
  }
  EXPECT_GT(changed, 0);
  EXPECT_GT(same, 0);
}

TEST_F(TrainingRun, MemoryIsPlannedAndATokenizerOfAnotherModelRefused) {
  EXPECT_NE(plan_memory(parse_recipe(recipe("run").dump(), "recipe")).find("MiB"), std::string::npos);
  ModelConfig config = load_model_config(folder_ / "model" / "config.json");
  config.language.vocab_size = 300;
  write_file_atomic(folder_ / "model" / "config.json", model_config_json(config));
  EXPECT_THROW(run(recipe("run")), Error);
}

}  // namespace
}  // namespace vl2::train
