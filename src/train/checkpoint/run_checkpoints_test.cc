#include "train/checkpoint/run_checkpoints.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/lora.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;

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

// Every value of the model and of the state is the step: what was loaded shows whether its parts belong together.
struct TrainingRun {
  explicit TrainingRun(const fs::path& folder, int64_t keep = 2, const char* preset = "test-tiny")
      : config(preset_config(preset)), checkpoints(folder, keep) {}

  CheckpointContent content(int64_t step) {
    values.assign(1000, static_cast<float>(step));
    CheckpointContent c;
    c.write_model = [this, step](const fs::path& folder) {
      write_model_files(folder, config, tensor_headers(weight_schema(config), DType::kBF16),
                        [step](const TensorHeader&, std::span<std::byte> bytes) {
                          const BF16 value = to_bf16(static_cast<float>(step));
                          for (size_t i = 0; i < bytes.size(); i += 2) std::memcpy(bytes.data() + i, &value, 2);
                        });
    };
    c.tensors = {{"moments", {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, {10, 100}}}};
    c.state_json = nlohmann::json{{"step", step}, {"sampler", {{"epoch", 1}}}}.dump();
    return c;
  }
  void write(int64_t step) { checkpoints.write(step, content(step)); }

  // The step all parts agree on; -1: none.
  int64_t load() {
    warnings.clear();
    const auto loaded = checkpoints.load(config, [this](const std::string& text) { warnings.push_back(text); });
    if (!loaded) return -1;
    EXPECT_EQ(nlohmann::json::parse(loaded->state_json)["step"], loaded->step);
    EXPECT_EQ(to_floats(loaded->tensors->at("moments")), std::vector<float>(1000, static_cast<float>(loaded->step)));
    const Checkpoint model(loaded->folder);
    EXPECT_EQ(to_floats(model.at("image_newline"))[0], to_float(to_bf16(static_cast<float>(loaded->step))));
    return loaded->step;
  }

  ModelConfig config;
  RunCheckpoints checkpoints;
  std::vector<float> values;
  std::vector<std::string> warnings;
};

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(RunCheckpoints, TheLatestIsLoadedAndIsAModelFolderOfItsOwn) {
  const TempFolder temp;
  fs::create_directories(temp / "init");
  write_file_atomic(temp / "init/tokenizer.json", "{\"a\":1}");
  write_file_atomic(temp / "init/model.safetensors", "weights of the start");
  TrainingRun run(temp / "run");
  EXPECT_EQ(run.load(), -1);
  CheckpointContent content = run.content(7);
  content.files_from = temp / "init";
  run.checkpoints.write(7, content);
  EXPECT_EQ(run.load(), 7);
  EXPECT_EQ(fs::read_symlink(temp / "run/latest"), "step-000007");
  EXPECT_EQ(
      names_in(temp / "run/latest/"),
      (std::vector<std::string>{"checkpoint.json", "config.json", "model-00001-of-000001.safetensors",
                                "model.safetensors.index.json", "state.json", "state.safetensors", "tokenizer.json"}));
  EXPECT_EQ(load_model_config(temp / "run/latest/config.json"), run.config);
  EXPECT_TRUE(run.warnings.empty());
}

TEST(RunCheckpoints, TheNewestFewStay) {
  const TempFolder temp;
  TrainingRun run(temp.path(), 2);
  for (const int64_t step : {10, 20, 30, 1000000}) run.write(step);
  EXPECT_EQ(run.checkpoints.steps(), (std::vector<int64_t>{30, 1000000}));
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"latest", "step-000030", "step-1000000"}));
  EXPECT_EQ(run.load(), 1000000);
  run.write(40);  // taken back to an earlier step: what lies beyond goes first
  run.write(50);
  EXPECT_EQ(run.checkpoints.steps(), (std::vector<int64_t>{40, 50}));
  EXPECT_EQ(run.load(), 50);
}

TEST(RunCheckpoints, AStepCanBeWrittenAgain) {
  const TempFolder temp;
  TrainingRun run(temp.path(), 1);
  run.write(5);
  CheckpointContent content = run.content(5);
  content.state_json = "{\"step\":5,\"again\":true}";
  run.checkpoints.write(5, content);
  const auto loaded = run.checkpoints.load(run.config, {});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->state_json, content.state_json);
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"latest", "step-000005"}));
}

TEST(RunCheckpoints, ABrokenOneIsPassedOverWithAWarningThatSaysWhat) {
  const std::vector<std::pair<const char*, std::function<void(const fs::path&)>>> damages = {
      {"state.safetensors", [](const fs::path& f) { fs::resize_file(f / "state.safetensors", 100); }},
      {"model-00001", [](const fs::path& f) { fs::resize_file(f / "model-00001-of-000001.safetensors", 5000); }},
      {"state.json", [](const fs::path& f) { fs::remove(f / "state.json"); }},
      {"state.json",
       [](const fs::path& f) {
         write_file_atomic(f / "state.json", std::string(read_file(f / "state.json").size(), '{'));
       }},
      {"checkpoint.json", [](const fs::path& f) { write_file_atomic(f / "checkpoint.json", "{}"); }},
      {"config.json", [](const fs::path& f) { fs::remove(f / "config.json"); }},
      {"of step 2 is broken", [](const fs::path& f) {
         // Header garbage at the right size.
         std::fstream file(f / "state.safetensors", std::ios::in | std::ios::out | std::ios::binary);
         file.seekp(8);
         file << "garbage";
       }}};
  for (const auto& [what, damage] : damages) {
    const TempFolder temp;
    TrainingRun run(temp.path(), 3);
    run.write(1);
    run.write(2);
    damage(temp / "step-000002");
    EXPECT_EQ(run.load(), 1) << what;
    ASSERT_EQ(run.warnings.size(), 1u) << what;
    EXPECT_ERROR(run.warnings[0], what);
    damage(temp / "step-000001");
    EXPECT_ERROR(error_of(ErrorCode::kCorrupt, [&run] { run.load(); }), "none of its 2 checkpoints is whole");
  }
}

TEST(RunCheckpoints, AManifestCannotPointElsewhere) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  run.write(1);
  write_file_atomic(temp / "step-000001/checkpoint.json",
                    "{\"format\":1,\"step\":1,\"files\":{\"state.json\":1,\"state.safetensors\":1,\"../x\":3}}");
  EXPECT_ERROR(error_of(ErrorCode::kCorrupt, [&] { run.load(); }), "none of its 1");
}

TEST(RunCheckpoints, ALinkToNothingFallsBackToTheNewest) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  run.write(1);
  run.write(2);
  fs::remove(temp / "latest");
  EXPECT_EQ(run.load(), 2);
  fs::create_symlink("step-000009", temp / "latest");
  EXPECT_EQ(run.load(), 2);
  ASSERT_EQ(run.warnings.size(), 1u);
  EXPECT_ERROR(run.warnings[0], "step 9 that is not there");
  fs::remove(temp / "latest");
  fs::create_symlink("step-000001", temp / "latest");  // somebody takes the run back
  EXPECT_EQ(run.load(), 1);
}

TEST(RunCheckpoints, AnotherArchitectureIsRefusedWithWhatDiffers) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  run.write(3);
  ModelConfig other = run.config;
  other.language.moe_intermediate_size = 21;
  const std::string error =
      error_of(ErrorCode::kInvalidArgument, [&] { run.checkpoints.load(other, [](const std::string&) {}); });
  EXPECT_ERROR(error, "language_config.moe_intermediate_size is 20, expected 21");
  EXPECT_EQ(config_differences(run.config, other).size(), 1u);
  ModelConfig dtype = run.config;
  dtype.torch_dtype = "bfloat16";
  EXPECT_TRUE(config_differences(run.config, dtype).empty());
}

TEST(RunCheckpoints, AnAdapterIsACheckpointToo) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  CheckpointContent content = run.content(4);
  const std::vector<float> a(8 * 2), b(2 * 8);
  content.write_model = [&](const fs::path& folder) {
    LoraConfig config;
    config.rank = 2;
    write_lora(folder, config,
               std::vector<LoraTensors>{{"language.x",
                                         {reinterpret_cast<const std::byte*>(a.data()), DType::kF32, {2, 8}},
                                         {reinterpret_cast<const std::byte*>(b.data()), DType::kF32, {8, 2}}}});
  };
  run.checkpoints.write(4, content);
  const auto loaded = run.checkpoints.load(run.config, {});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(LoraAdapter(loaded->folder).modules().size(), 1u);
}

TEST(RunCheckpoints, AFailingWriterLeavesTheEarlierOnes) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  run.write(1);
  CheckpointContent content = run.content(2);
  content.write_model = [inner = content.write_model](const fs::path& folder) {
    inner(folder);
    fail(ErrorCode::kIo, "no space left on device");
  };
  const std::string error = error_of(ErrorCode::kIo, [&] { run.checkpoints.write(2, content); });
  EXPECT_ERROR(error, "the checkpoint of step 2 was not written, those before it are untouched: no space left");
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"latest", "step-000001"}));
  EXPECT_EQ(run.load(), 1);
}

// Runs `body` in a process of its own; its exit code.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = body();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(RunCheckpoints, AFullDiskIsAClearErrorAndLeavesTheEarlierOnes) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  run.write(1);
  const int code = in_child([&run] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {50000, 50000};  // the weights are larger
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      run.write(2);
    } catch (const Error& error) {
      const std::string text = error.what();
      return error.code() == ErrorCode::kIo && text.find("step 2 was not written") != text.npos &&
                     text.find("that has space") != text.npos
                 ? 0
                 : 2;
    }
    return 1;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"latest", "step-000001"}));
  EXPECT_EQ(run.load(), 1);
}

TEST(RunCheckpoints, KillingTheWriterAtAnyMomentLeavesAWholeOne) {
  const TempFolder temp;
  TrainingRun run(temp.path());
  run.write(1);
  Random random(20240607);
  int64_t last = 1, half_written = 0;
  // Kills fall anywhere into the first few checkpoints of a writer, however slow process and disk are: the time they
  // fall into grows until writers get somewhere, and shrinks while they get far.
  double reach = 2e4;
  for (int round = 0; round < 50 || last == 1 || half_written < 6; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        for (int64_t step = last + 1;; ++step) run.write(step);
      } catch (...) {
      }
      ::_exit(1);
    }
    std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(1000 + reach * random.uniform()));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself";
    for (const std::string& name : names_in(temp.path())) half_written += name.starts_with(".writing-") ? 1 : 0;
    const int64_t step = run.load();
    ASSERT_GE(step, last) << "round " << round;
    EXPECT_TRUE(run.warnings.empty()) << run.warnings.front();
    reach *= step == last ? 1.3 : step > last + 2 ? 0.7 : 1;
    last = step;
  }
  run.write(last + 1);
  for (const std::string& name : names_in(temp.path())) EXPECT_FALSE(name.starts_with('.')) << name;
}

}  // namespace
}  // namespace vl2::train
