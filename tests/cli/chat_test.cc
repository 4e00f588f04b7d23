#include <gtest/gtest.h>

#include "cli/process.h"
#include "cli/terminal_process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"

namespace vl2::cli_test {
namespace {

std::string example(const std::string& name) { return std::string(source_dir()) + "/examples/" + name; }
const std::string kWide = example("5-wide.png"), kColour = "What colour is the square?";
const std::string kInterrupt = "\003", kEndOfInput = "\004", kUp = "\033[A";

// --- stdin is no terminal ---

TEST(ChatPiped, EveryLineIsAMessageOrACommand) {
  const std::string answer = run_vl2({"ask", "-i", kWide, kColour}).out;
  EXPECT_EQ(run_vl2({"chat"}, "/image " + kWide + "\n" + kColour + "\n").out, answer);
  EXPECT_EQ(run_vl2({"chat", "-i", kWide}, kColour + "\n/quit\n" + kColour + "\n").out, answer);
  EXPECT_EQ(run_vl2({"chat", "-i", kWide}, kColour).out, answer) << "the last line needs no newline";
  EXPECT_EQ(run_vl2({"chat", "-i", kWide}, kColour + "\n/retry\n").out, answer + answer);
  EXPECT_EQ(run_vl2({"chat"}, "/image '" + kWide + "'\n\n  \n" + kColour + "\n").out, answer);
  EXPECT_EQ(run_vl2({"chat"}, "").exit_code, 0);
}

TEST(ChatPiped, TurnsBuildOnEachOtherUntilTheyAreCleared) {
  const auto prompt_sizes = [](const std::string& input) {
    const Outcome outcome = run_vl2({"chat", "--timings", "-i", kWide}, input);
    std::vector<int> sizes;
    for (size_t at = outcome.err.find("prompt "); at != std::string::npos; at = outcome.err.find("prompt ", at + 1))
      sizes.push_back(std::stoi(outcome.err.substr(at + 7)));
    return sizes;
  };
  const std::vector<int> two = prompt_sizes(kColour + "\n" + kColour + "\n");
  ASSERT_EQ(two.size(), 2);
  EXPECT_GT(two[1], two[0]);
  const std::vector<int> cleared = prompt_sizes(kColour + "\n/clear\n" + kColour + "\n");
  EXPECT_GT(cleared[0] - cleared[1], 617) << "the picture and the newline behind it are gone";
  const std::vector<int> system = prompt_sizes("/system Be brief.\n" + kColour + "\n");
  EXPECT_GT(system[0], two[0]);
}

TEST(ChatPiped, AConversationThatOutgrowsTheContextForgetsItsBeginning) {
  std::string input;
  for (int i = 0; i < 12; ++i) input += kColour + "\n";
  const Outcome outcome = run_vl2({"chat", "--max-context", "120", "--max-new-tokens", "20"}, input);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 12) << outcome.out;
  EXPECT_NE(outcome.err.find("forgotten"), std::string::npos) << outcome.err;
}

TEST(ChatPiped, AMessageThatFailsIsSaidAndTheNextOneIsAnswered) {
  const std::string answer = run_vl2({"ask", "-i", kWide, kColour}).out;
  for (const std::string wrong : {"/image /no/such.png", "/nonsense", "/image", "/retry", "<image><image> two?"}) {
    const Outcome outcome = run_vl2({"chat", "-i", kWide}, wrong + "\n" + kColour + "\n");
    EXPECT_EQ(outcome.out, answer) << wrong;
    EXPECT_TRUE(outcome.err.starts_with("vl2 chat: ")) << outcome.err;
    EXPECT_EQ(outcome.exit_code, 1) << "nobody was there to read the message";
  }
  EXPECT_EQ(run_vl2({"chat", "-i", "-"}, "x").exit_code, 2);
}

TEST(ChatPiped, NoHistoryIsKept) {
  const TempFolder state;
  RunOptions options;
  options.environment = {{"XDG_STATE_HOME", state.path().string()}};
  options.input = kColour + "\n";
  EXPECT_EQ(run_vl2({"chat"}, options).exit_code, 0);
  EXPECT_EQ(names_in(state.path()), std::vector<std::string>{});
}

// --- somebody types ---

class ChatTyped : public testing::Test {
 protected:
  TerminalProcess start(std::vector<std::string> arguments = {}) {
    arguments.insert(arguments.begin(), "chat");
    return {arguments, {{"XDG_STATE_HOME", state_.path().string()}}};
  }
  std::string history() const { return read_file(state_ / "vl2/chat_history"); }

  TempFolder state_;
};

TEST_F(ChatTyped, AnswersStreamUnderThePromptAndCtrlDLeaves) {
  TerminalProcess chat = start();
  ASSERT_TRUE(chat.sees("> ")) << chat.screen();
  chat.type("/image " + kWide + "\r");
  ASSERT_TRUE(chat.sees("768 x 384 pixels")) << chat.screen();
  ASSERT_TRUE(chat.sees("[1 picture] > ")) << chat.screen();
  chat.type(kColour + "\r");
  ASSERT_TRUE(chat.sees("\033[Kyellow\r\n")) << chat.screen();
  ASSERT_TRUE(chat.sees("> ")) << chat.screen();
  chat.type(kEndOfInput);
  EXPECT_EQ(chat.exit_code(), 0);
  EXPECT_EQ(history(), "\"/image " + kWide + "\"\n\"" + kColour + "\"\n");
}

TEST_F(ChatTyped, KeysTypedAheadOfThePromptCount) {
  TerminalProcess chat = start();
  ASSERT_TRUE(chat.sees("> "));
  chat.type(kColour + "\r/help\r" + kEndOfInput);
  EXPECT_TRUE(chat.sees("/image PATH")) << chat.screen();
  EXPECT_EQ(chat.exit_code(), 0) << chat.screen();
}

TEST_F(ChatTyped, EarlierMessagesComeBackWithTheArrowKeys) {
  std::filesystem::create_directories(state_ / "vl2");
  write_file_atomic(state_ / "vl2/chat_history", "\"/help\"\n");
  TerminalProcess chat = start();
  ASSERT_TRUE(chat.sees("> "));
  chat.type(kUp + "\r");
  EXPECT_TRUE(chat.sees("/image PATH")) << chat.screen();
  chat.type("/quit\r");
  EXPECT_EQ(chat.exit_code(), 0);
}

TEST_F(ChatTyped, PastedLinesAreOneMessage) {
  TerminalProcess chat = start();
  ASSERT_TRUE(chat.sees("> "));
  chat.type("\033[200~first line\r/quit\rthird 汉字\033[201~\r");
  ASSERT_TRUE(chat.sees("> ")) << chat.screen();
  chat.type("/quit\r");
  EXPECT_EQ(chat.exit_code(), 0);
  EXPECT_EQ(history(), "\"first line\\n/quit\\nthird 汉字\"\n\"/quit\"\n");
}

TEST_F(ChatTyped, CtrlCThrowsAwayTheLineAndNotTheChat) {
  TerminalProcess chat = start();
  ASSERT_TRUE(chat.sees("> "));
  chat.type("/quit");
  ASSERT_TRUE(chat.sees("/quit"));
  chat.type(kInterrupt);
  ASSERT_TRUE(chat.sees("^C")) << chat.screen();
  ASSERT_TRUE(chat.sees("> "));
  chat.type("/help\r");
  EXPECT_TRUE(chat.sees("/image PATH")) << chat.screen();
  chat.type(kEndOfInput);
  EXPECT_EQ(chat.exit_code(), 0);
}

TEST_F(ChatTyped, CtrlCStopsTheAnswerAndNotTheChat) {
  TerminalProcess chat = start({"-i", kWide, "--backend", "reference"});  // slow enough to be stopped
  ASSERT_TRUE(chat.sees("> "));
  chat.type(kColour + "\r");
  ASSERT_TRUE(chat.sees("vision: 0 of 3 tiles")) << chat.screen();
  chat.type(kInterrupt);
  ASSERT_TRUE(chat.sees("Stopped")) << chat.screen();
  ASSERT_TRUE(chat.sees("[1 picture] > ")) << "the picture goes with the next message: " << chat.screen();
  chat.type("/quit\r");
  EXPECT_EQ(chat.exit_code(), 0);
  EXPECT_EQ(chat.screen().find("yellow"), std::string::npos);
}

TEST(AskTyped, ProgressIsShownAndClearedBeforeTheAnswer) {
  TerminalProcess ask({"ask", "-i", kWide, kColour}, {});
  EXPECT_EQ(ask.exit_code(), 0);
  const std::string& screen = ask.screen();
  for (const char* stage : {"load: ", "vision: ", "prefill: "})
    EXPECT_NE(screen.find(stage), std::string::npos) << stage << screen;
  EXPECT_TRUE(screen.ends_with("\r\033[Kyellow\r\n")) << screen;
}

TEST(AskTyped, CtrlCEndsItWithExitCode130AndLeavesNothing) {
  const TempFolder temp;
  TerminalProcess ask({"ask", "-i", kWide, kColour, "--backend", "reference", "--boxes", (temp / "b.png").string()},
                      {});
  ASSERT_TRUE(ask.sees("vision: 0 of 3 tiles")) << ask.screen();
  ask.type(kInterrupt);
  EXPECT_EQ(ask.exit_code(), 130);
  EXPECT_EQ(ask.screen().find("yellow"), std::string::npos);
  EXPECT_EQ(names_in(temp.path()), std::vector<std::string>{});
}

}  // namespace
}  // namespace vl2::cli_test
