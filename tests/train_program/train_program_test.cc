// The trainer as its users meet it: what it does with signals, wrong use and a sudden end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/checkpoint.h"
#include "core/model_spec/model_config.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class TrainProgram : public testing::Test {
 protected:
  // A text-only recipe over the tokenizer that ships with the source.
  void SetUp() override {
    const fs::path nano = fs::path(source_dir()) / "tests/goldens/nano/model";
    fs::create_directories(folder_ / "model");
    ModelConfig config = preset_config("test-tiny");
    config.language.vocab_size = 454;
    config.language.bos_token_id = 0;
    config.language.eos_token_id = 1;
    write_file_atomic(folder_ / "model" / "config.json", model_config_json(config));
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
      fs::copy_file(nano / name, folder_ / "model" / name);
    Json processor = Json::parse(read_file(nano / "processor_config.json"));
    processor["candidate_resolutions"] = config.candidate_resolutions;
    processor["patch_size"] = config.vision.patch_size;
    write_file_atomic(folder_ / "model" / "processor_config.json", processor.dump());
    std::string lines;
    for (int i = 0; i < 20; ++i)
      lines += Json{{"messages",
                     {{{"role", "user"}, {"content", fmt::format("What is {} and 1?", i)}},
                      {{"role", "assistant"}, {"content", std::to_string(i + 1)}}}}}
                   .dump() +
               "\n";
    write_file_atomic(folder_ / "records.jsonl", lines);
    const Json recipe = {{"name", "program"},
                         {"stage", "sft"},
                         {"model", {{"config", (folder_ / "model").string()}}},
                         {"data", {{{"path", (folder_ / "records.jsonl").string()}}}},
                         {"max_length", 128},
                         {"batch_size", 2},
                         {"steps", 100000},
                         {"learning_rate", 1e-3},
                         {"compute", "fp32"},
                         {"threads", 1},
                         {"save_every", 5},
                         {"keep", 2},
                         {"output", run().string()}};
    write_file_atomic(folder_ / "recipe.json", recipe.dump());
  }

  fs::path run() const { return folder_ / "run"; }

  pid_t start(std::vector<std::string> arguments) const {
    const std::string log = folder_ / "output.txt";
    const pid_t child = fork();
    if (child != 0) return child;
    const int out = open(log.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    arguments.insert(arguments.begin(), VL2_TRAIN_PROGRAM);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(VL2_TRAIN_PROGRAM, argv.data());
    _exit(127);
  }
  // The exit code; minus the signal that ended it.
  static int finish(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  int call(const std::vector<std::string>& arguments) const { return finish(start(arguments)); }
  std::string output() const { return read_file(folder_ / "output.txt"); }

  // Waits until a line of the log is there.
  void wait_for_step(int64_t step) const {
    const std::string wanted = fmt::format("{{\"step\":{},", step);
    for (int i = 0; i < 6000; ++i) {
      std::error_code ignored;
      if (fs::exists(run() / "log.jsonl", ignored) && read_file(run() / "log.jsonl").find(wanted) != std::string::npos)
        return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL() << "no step " << step << ": " << output();
  }
  void expect_whole_checkpoint() const {
    const fs::path latest = run() / "latest";
    EXPECT_NO_THROW(Checkpoint(latest).check(load_model_config(latest / "config.json")));
  }

  TempFolder folder_;
};

TEST_F(TrainProgram, ATermSignalWritesACheckpointAndEndsWell) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGINT}) {
    const pid_t child = start({folder_ / "recipe.json", "save_every=0"});
    wait_for_step(2);
    kill(child, signal);
    EXPECT_EQ(finish(child), 0) << output();
    EXPECT_NE(output().find("stopped after step"), std::string::npos) << output();
    expect_whole_checkpoint();
    fs::remove_all(run());
  }
}

TEST_F(TrainProgram, AKillAtAnyMomentLeavesACheckpointThatLoads) {
  int64_t delay = 0;
  for (int round = 0; round < 6; ++round) {
    const pid_t child = start({folder_ / "recipe.json", "save_every=1"});
    wait_for_step(round + 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(delay = (delay * 7 + 13) % 40));
    kill(child, SIGKILL);
    EXPECT_EQ(finish(child), -SIGKILL);
    if (fs::exists(run() / "latest")) expect_whole_checkpoint();
  }
  const pid_t child = start({folder_ / "recipe.json"});
  wait_for_step(8);
  kill(child, SIGTERM);
  EXPECT_EQ(finish(child), 0) << output();
  EXPECT_NE(output().find("going on from"), std::string::npos) << output();
}

TEST_F(TrainProgram, ARunThatIsDoneIsNotMadeAgain) {
  for (const char* words : {"done after step 2 of 2, loss", "nothing is left to do after step 2 of 2;"}) {
    EXPECT_EQ(call({folder_ / "recipe.json", "steps=2"}), 0) << output();
    EXPECT_NE(output().find(words), std::string::npos) << output();
    expect_whole_checkpoint();
  }
}

TEST_F(TrainProgram, WrongUseIsSaid) {
  EXPECT_EQ(call({}), 2);
  EXPECT_EQ(call({folder_ / "none.json"}), 1);
  EXPECT_NE(output().find("none.json"), std::string::npos) << output();
  EXPECT_EQ(call({folder_ / "recipe.json", "learning_rat=1"}), 1);
  EXPECT_NE(output().find("learning_rate"), std::string::npos) << output();
  EXPECT_EQ(call({"--help"}), 0);
  EXPECT_NE(output().find("vl2 train recipe.json"), std::string::npos) << output();
}

TEST_F(TrainProgram, ADryRunSaysTheMemoryAndWritesNothing) {
  EXPECT_EQ(call({folder_ / "recipe.json", "--dry-run"}), 0) << output();
  EXPECT_NE(output().find("optimiser"), std::string::npos) << output();
  EXPECT_FALSE(fs::exists(run()));
}

TEST_F(TrainProgram, TheCurveOfALogIsAPicture) {
  ASSERT_EQ(call({folder_ / "recipe.json", "steps=4", "save_every=0"}), 0) << output();
  EXPECT_EQ(call({"curve", run() / "log.jsonl", "-o", folder_ / "curve.png"}), 0) << output();
  EXPECT_TRUE(read_file(folder_ / "curve.png").starts_with("\x89PNG"));
  EXPECT_EQ(call({"curve", folder_ / "none.jsonl", "-o", folder_ / "none.png"}), 1);
}

}  // namespace
}  // namespace vl2
