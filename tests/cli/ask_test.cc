#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/process.h"
#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/image/decode.h"
#include "core/image/encode.h"

namespace vl2::cli_test {
namespace {

using nlohmann::json;

std::string example(const std::string& name) { return std::string(source_dir()) + "/examples/" + name; }
const std::string kWide = example("5-wide.png"), kShapes = example("4-four-shapes.png");
const std::string kColour = "What colour is the square?", kFind = "<|ref|>the red square<|/ref|>.";

json ask_json(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"ask", "--json"});
  const Outcome outcome = run_vl2(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  return json::parse(outcome.out);
}

TEST(AskGolden, TheirModelAnswersAsTheOfficialModulesDo) {
  const std::string folder = std::string(source_dir()) + "/tests/goldens/nano/";
  int compared = 0;
  for (const json& golden : json::parse(read_file(folder + "answers.json"))) {
    if (golden["margin_min"].get<double>() <= 6e-3) continue;  // either token is right
    SCOPED_TRACE(golden["image"].get<std::string>() + " " + golden["question"].get<std::string>());
    const Outcome outcome =
        run_vl2({"ask", "-m", folder + "model", "--compute", "f32", "-i", folder + golden["image"].get<std::string>(),
                 golden["question"].get<std::string>()});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, golden["answer"].get<std::string>() + "\n");
    ++compared;
  }
  EXPECT_EQ(compared, 37);
}

TEST(Ask, QuestionAndPictureCanComeFromStdin) {
  const std::string expected = run_vl2({"ask", "-i", kWide, kColour}).out;
  EXPECT_EQ(run_vl2({"ask", "-i", kWide}, kColour + "\n").out, expected);
  EXPECT_EQ(run_vl2({"ask", "-i", kWide, "-"}, kColour + "\n").out, expected);
  EXPECT_EQ(run_vl2({"ask", "-i", "-", kColour}, read_file(kWide)).out, expected);
  const Outcome both = run_vl2({"ask", "-i", "-"}, read_file(kWide));
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_NE(both.err.find("the question must be an argument"), std::string::npos) << both.err;
}

TEST(Ask, JsonHasTheAnswerItsBoxesAndItsCosts) {
  const json got = ask_json({"-i", kShapes, kFind});
  EXPECT_EQ(got["finish_reason"], "stop");
  EXPECT_EQ(got["usage"]["vision_tokens"], 421);
  EXPECT_EQ(got["usage"]["tiles"], 2);
  EXPECT_EQ(got["usage"]["prompt_tokens"].get<int>(), 421 + 13);
  for (const char* key : {"load_ms", "vision_ms", "prefill_ms", "decode_ms", "first_token_ms", "total_ms"})
    EXPECT_GE(got["timings"][key].get<double>(), 0) << key;
  ASSERT_EQ(got["boxes"].size(), 1);
  const json& box = got["boxes"][0];
  EXPECT_EQ(box["label"], "the red square");
  const auto b = box["box"].get<std::vector<int>>(), p = box["pixels"].get<std::vector<int>>();
  EXPECT_EQ(got["answer"], fmt::format("<|ref|>the red square<|/ref|><|det|>[[{}]]<|/det|>", fmt::join(b, ", ")));
  const Image picture = load_image(kShapes);
  EXPECT_EQ(p, (std::vector<int>{static_cast<int>(b[0] / 999.0 * static_cast<double>(picture.width)),
                                 static_cast<int>(b[1] / 999.0 * static_cast<double>(picture.height)),
                                 static_cast<int>(b[2] / 999.0 * static_cast<double>(picture.width)),
                                 static_cast<int>(b[3] / 999.0 * static_cast<double>(picture.height))}));
}

TEST(Ask, BoxesAreDrawnOnTheLastPicture) {
  const TempFolder temp;
  const Outcome outcome = run_vl2({"ask", "-i", kShapes, "--boxes", (temp / "found.png").string(), kFind});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("<|det|>"), std::string::npos) << outcome.out;
  const Image before = load_image(kShapes), after = load_image(temp / "found.png");
  EXPECT_EQ(after.width, before.width);
  EXPECT_EQ(after.height, before.height);
  EXPECT_NE(after.rgb, before.rgb);
  EXPECT_EQ(names_in(temp.path()), std::vector<std::string>{"found.png"});
}

TEST(Ask, WhereNothingIsLocatedNoPictureIsWritten) {
  const TempFolder temp;
  const Outcome outcome = run_vl2({"ask", "-i", kWide, "--boxes", (temp / "found.png").string(), kColour});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_NE(outcome.err.find("locates nothing"), std::string::npos) << outcome.err;
  EXPECT_EQ(names_in(temp.path()), std::vector<std::string>{});
}

TEST(Ask, MissingPlaceholdersArePutInFrontAndSpareOnesAreErrors) {
  const json implied = ask_json({"-i", kWide, kColour}), written = ask_json({"-i", kWide, "<image>\n" + kColour});
  EXPECT_EQ(implied["usage"], written["usage"]);
  EXPECT_EQ(implied["answer"], written["answer"]);
  const json two = ask_json({"-i", kWide, "-i", kShapes, "<image>\nand this?"});
  EXPECT_EQ(two["usage"]["vision_tokens"], 617 + 421);
  const json three = ask_json({"-i", kWide, "-i", kShapes, "-i", kWide, "<image>\nand these?"});
  EXPECT_EQ(three["usage"]["vision_tokens"], 3 * 421) << "three pictures are not cut into more tiles";
  expect_failure(run_vl2({"ask", "-i", kWide, "<image><image> which?"}), "ask", {"2 <image>", "1 picture"});
  expect_failure(run_vl2({"ask", "<image> which?"}), "ask", {"1 <image>", "0 pictures"});
}

TEST(Ask, OptionsOfTheAnswerReachTheEngine) {
  EXPECT_EQ(ask_json({"-i", kShapes, kFind, "--max-new-tokens", "3"})["finish_reason"], "length");
  const json stopped = ask_json({"-i", kShapes, kFind, "--stop", "square", "--stop", "never"});
  EXPECT_EQ(stopped["finish_reason"], "stop_string");
  EXPECT_EQ(stopped["stop_string"], "square");
  EXPECT_EQ(stopped["answer"], "<|ref|>the red ");
  const json plain = ask_json({kColour}), with_system = ask_json({"--system", "Be brief.", kColour});
  EXPECT_GT(with_system["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"]);
  const auto sample = [](const std::string& seed) {
    return ask_json({kColour, "--temperature", "5", "--seed", seed, "--max-new-tokens", "20"})["answer"];
  };
  EXPECT_EQ(sample("1"), sample("1"));
  EXPECT_NE(sample("1"), sample("2"));
  EXPECT_NE(ask_json({"-i", kShapes, kFind, "--repetition-penalty", "3"})["answer"],
            ask_json({"-i", kShapes, kFind})["answer"]);
}

TEST(Ask, TimingsGoToStderr) {
  const Outcome outcome = run_vl2({"ask", "-i", kWide, kColour, "--timings"});
  EXPECT_EQ(outcome.out, run_vl2({"ask", "-i", kWide, kColour}).out);
  for (const char* word : {"617 of pictures", "3 tiles", "load ", "vision ", "prefill ", "decode ", "total "})
    EXPECT_NE(outcome.err.find(word), std::string::npos) << outcome.err;
}

TEST(Ask, DraftsChangeNothingButTheTime) {
  const json off = ask_json({"-i", kShapes, kFind, "--speculate", "off"});
  const json always = ask_json({"-i", kShapes, kFind, "--speculate", "always"});
  for (const char* same : {"answer", "boxes", "finish_reason", "usage"}) EXPECT_EQ(always[same], off[same]);
  EXPECT_EQ(off["timings"]["drafted_tokens"], 0);
  EXPECT_GT(always["timings"]["drafted_tokens"], always["timings"]["accepted_tokens"]);
  EXPECT_GT(always["timings"]["accepted_tokens"], 0);
  const Outcome timings = run_vl2({"ask", "-i", kShapes, kFind, "--speculate", "always", "--timings"});
  EXPECT_NE(timings.err.find("drafts "), std::string::npos) << timings.err;
  const Outcome wrong = run_vl2({"ask", "-i", kShapes, kFind, "--speculate", "sometimes"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_NE(wrong.err.find("sometimes"), std::string::npos) << wrong.err;
}

TEST(Ask, EveryBackendAnswersTheSame) {
  const std::string expected =
      run_vl2({"ask", "-i", example("3-shapes.png"), "--backend", "cpu", "Count the shapes."}).out;
  EXPECT_EQ(run_vl2({"ask", "-i", example("3-shapes.png"), "--backend", "reference", "Count the shapes."}).out,
            expected);
  EXPECT_EQ(run_vl2({"ask", "-i", example("3-shapes.png"), "--threads", "1", "Count the shapes."}).out, expected);
}

TEST(Ask, WhatCannotBeAnsweredIsAnErrorThatLeavesNothing) {
  const TempFolder temp;
  write_file_atomic(temp / "text.png", "no picture");
  write_file_atomic(temp / "thin.png", encode_png(make_image(3000, 2, 1, 2, 3)));
  const std::string boxes = (temp / "boxes.png").string();
  const auto refuse = [&](std::vector<std::string> arguments, const std::vector<std::string>& words) {
    arguments.insert(arguments.begin(), "ask");
    expect_failure(run_vl2(arguments), "ask", words);
  };
  refuse({""}, {"the question is empty"});
  refuse({" \n", "-i", kWide}, {"the question is empty"});
  refuse({"q", "-i", (temp / "absent.png").string(), "--boxes", boxes}, {"absent.png"});
  refuse({"q", "-i", (temp / "text.png").string(), "--boxes", boxes}, {"text.png"});
  refuse({"q", "-i", (temp / "thin.png").string(), "--boxes", boxes}, {"3000"});
  refuse({"q", "-i", kWide, "--max-context", "500"}, {"500", "picture 1: 617", "2 x 1 tiles", "too many"});
  refuse({"q", "-i", kWide, "--boxes", (temp / "no/boxes.png").string()}, {"cannot write"});
  refuse({"q", "-i", kWide, "--boxes", temp.path().string() + "/boxes.bmp"}, {".png"});
  refuse({"q", "--max-context", "1000000000"}, {"needs", "GiB", "available"});
  refuse({"q", "-m", (temp / "absent").string()}, {"absent"});
  refuse({"q", "-m", "deepseek-ai/deepseek-vl2-absent"}, {"not downloaded"});
  EXPECT_EQ(names_in(temp.path()), (std::vector<std::string>{"text.png", "thin.png"}));
}

TEST(Ask, OptionsThatMakeNoSenseAreWrongUse) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"ask", "q", "--temperature", "-1"},
                                             {"ask", "q", "--top-p", "1.5"},
                                             {"ask", "q", "--boxes", "out.png"},
                                             {"ask", "two", "words"},
                                             {"ask", "q", "--background", "white", "-i", kWide},
                                             {"ask", "q", "-i", "-", "-i", "-"}}) {
    const Outcome outcome = run_vl2(arguments);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

}  // namespace
}  // namespace vl2::cli_test
