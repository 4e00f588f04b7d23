// vl2 ask: one question about pictures, answered on stdout.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/answering.h"
#include "apps/cli/commands.h"
#include "apps/cli/constraint_options.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/output_file.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "core/image/draw.h"
#include "core/image/encode.h"
#include "core/processor/processor.h"
#include "core/text/grounding.h"
#include "core/text/utf8.h"
#include "engine/runtime/request_check.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;

constexpr size_t kLongestQuestion = size_t{16} << 20;

struct AskOptions {
  std::string model, lora, question, system, boxes;
  ConstraintOptions constraint;
  std::vector<std::string> pictures;
  PictureOptions picture_options;
  ComputeOptions compute;
  AnswerOptions answer;
  bool json = false;
};

// Before anything costs time: options that cannot work together, and places that cannot be written.
void check_options(const AskOptions& options) {
  const auto stdin_pictures = std::count(options.pictures.begin(), options.pictures.end(), "-");
  options.constraint.check();
  const bool stdin_question = options.question.empty() || options.question == "-";
  if (stdin_pictures > 1) throw UsageError("only one picture can come from stdin (-i -)");
  if (stdin_pictures == 1 && stdin_question)
    throw UsageError("the picture comes from stdin (-i -), so the question must be an argument");
  if (options.boxes.empty()) return;
  if (options.pictures.empty()) throw UsageError("--boxes needs a picture to draw on: add -i IMAGE");
  check_writable_picture(options.boxes);
}

std::string read_question(const AskOptions& options) {
  std::string question = options.question;
  if (question.empty() || question == "-") {
    if (stdin_is_terminal()) write_stderr("Type the question, then Ctrl-D on a new line:\n");
    question = read_stdin(kLongestQuestion);
  }
  if (python_strip(question).empty())
    fail(ErrorCode::kInvalidArgument, "the question is empty; give one as an argument or on stdin");
  return question;
}

MultimodalPrompt make_prompt(const AskOptions& options, const Processor& processor, const std::string& question,
                             std::span<const Image> images) {
  std::vector<Message> messages;
  if (!options.system.empty()) messages.push_back({"system", options.system});
  messages.push_back({"user", with_placeholders(question, images.size())});
  messages.push_back({"assistant", ""});
  return processor.build(messages, images);
}

struct LocatedBox {
  std::string label;
  Box box;                                 // 0..999
  int64_t x1 = 0, y1 = 0, x2 = 0, y2 = 0;  // pixels of the last picture, truncated as by the releases' demo
};

std::vector<LocatedBox> locate(const std::string& answer, const Image& picture) {
  std::vector<LocatedBox> boxes;
  for (const GroundedObject& object : parse_grounding(answer).objects)
    for (const Box& box : object.boxes) {
      const PixelBox p = decode_box(box, picture.width, picture.height);
      boxes.push_back({object.label, box, static_cast<int64_t>(p.x1), static_cast<int64_t>(p.y1),
                       static_cast<int64_t>(p.x2), static_cast<int64_t>(p.y2)});
    }
  return boxes;
}

void draw(const std::string& path, const Image& picture, const std::vector<LocatedBox>& boxes) {
  if (boxes.empty()) {
    write_stderr(printable(fmt::format("vl2 ask: note: the answer locates nothing, so {} was not written\n", path)));
    return;
  }
  std::vector<LabelledBox> labelled;
  for (const LocatedBox& b : boxes)
    labelled.push_back({static_cast<double>(b.x1), static_cast<double>(b.y1), static_cast<double>(b.x2),
                        static_cast<double>(b.y2), b.label});
  DrawReport report;
  save_image(path, draw_boxes(picture, labelled, {}, &report));
  if (!report.advice.empty()) write_stderr(printable(fmt::format("vl2 ask: note: {}\n", report.advice)));
}

ordered_json as_json(const Answer& answer, const std::vector<LocatedBox>& boxes, const OpenedModel& model,
                     const std::string& folder) {
  ordered_json out;
  out["answer"] = answer.text;
  out["boxes"] = ordered_json::array();
  for (const LocatedBox& b : boxes)
    out["boxes"].push_back(
        {{"label", b.label}, {"box", {b.box.x1, b.box.y1, b.box.x2, b.box.y2}}, {"pixels", {b.x1, b.y1, b.x2, b.y2}}});
  out["finish_reason"] = finish_reason_name(answer.finish);
  if (answer.stop_string) out["stop_string"] = *answer.stop_string;
  const Usage& usage = answer.usage;
  out["usage"] = {{"prompt_tokens", usage.prompt_tokens},
                  {"vision_tokens", usage.vision_tokens},
                  {"tiles", usage.tiles},
                  {"completion_tokens", usage.completion_tokens}};
  const Timings& t = answer.timings;
  out["timings"] = {{"load_ms", model.load_ms},
                    {"vision_ms", t.vision_ms},
                    {"prefill_ms", t.prefill_ms},
                    {"decode_ms", t.decode_ms},
                    {"drafted_tokens", t.drafted_tokens},
                    {"accepted_tokens", t.accepted_tokens},
                    {"first_token_ms", t.first_token_ms()},
                    {"total_ms", model.load_ms + t.total_ms()}};
  out["model"] = folder;
  out["backend"] = model.engine->backend();
  return out;
}

void say_why_it_ended(const Answer& answer) {
  if (answer.finish == FinishReason::kLength && stderr_is_terminal())
    write_stderr(fmt::format("vl2 ask: note: stopped after {} tokens; --max-new-tokens or --max-context allow more\n",
                             answer.usage.completion_tokens));
}

int run(const AskOptions& options) {
  check_options(options);
  const std::filesystem::path folder = find_model(options.model);
  std::vector<Image> images;
  for (const std::string& picture : options.pictures) images.push_back(read_picture(picture, options.picture_options));
  const std::string question = read_question(options);
  const auto processor = std::make_shared<const Processor>(Processor::open(folder));
  Request request = make_request(make_prompt(options, *processor, question, images), options.answer);
  const ModelConfig config = load_model_config(folder / "config.json");
  request.constraint = options.constraint.compile(processor->shared_tokenizer(), config);
  const int64_t context =
      options.answer.max_context > 0 ? options.answer.max_context : config.language.max_position_embeddings;
  check_request(request, config, context, true);

  ProgressLine progress("ask");
  const OpenedModel model =
      open_model(folder, options.lora, options.compute, options.answer.max_context, progress, processor);
  const InterruptWatch interrupt;
  AnswerWriter writer;
  const Answer answer =
      stream_answer(*model.engine, std::move(request), progress, interrupt, [&](std::string_view text) {
        if (!options.json) writer.write(text);
      });
  const std::vector<LocatedBox> boxes = images.empty() ? std::vector<LocatedBox>{} : locate(answer.text, images.back());
  if (options.json) {
    write_stdout(
        as_json(answer, boxes, model, folder.string()).dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
        "\n");
  } else if (answer.finish != FinishReason::kCancelled || !answer.text.empty()) {
    writer.finish();
  }
  if (options.answer.timings) write_stderr(timings_text(answer, model.load_ms));
  // At once: the engine may still be busy with a long step, and nothing is left to be cleaned up.
  if (answer.finish == FinishReason::kCancelled) std::_Exit(kExitInterrupted);
  say_why_it_ended(answer);
  if (!options.boxes.empty()) draw(options.boxes, images.back(), boxes);
  return kExitOk;
}

}  // namespace

RunCommand declare_ask(CLI::App& app) {
  const auto options = std::make_shared<AskOptions>();
  app.add_option("question", options->question, "The question; stdin if it is absent or -")->type_name("TEXT");
  app.add_option("-i,--image", options->pictures, "A picture; may be given several times; - reads it from stdin")
      ->type_name("IMAGE")
      ->allow_extra_args(false);
  add_model_option(app, options->model);
  add_lora_option(app, options->lora);
  app.add_option("--system", options->system, "Text in front of the conversation")->type_name("TEXT");
  app.add_option("--boxes", options->boxes, "Draw what the answer locates on the last picture (.png, .jpg)")
      ->type_name("OUT.png");
  app.add_flag("--json", options->json,
               "One JSON object: answer, boxes (0..999 and pixels), finish_reason, usage, timings");
  add_answer_options(app, options->answer);
  add_constraint_options(app, options->constraint);
  add_compute_options(app, options->compute);
  add_picture_options(app, options->picture_options);
  app.footer(
      "<image> in the question stands for the next picture; where there are fewer than pictures, the missing ones are\n"
      "put in front. Answers are greedy unless --temperature is given. Located things come as\n"
      "<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2]]<|/det|>, 0..999 of the last picture's width and height.\n"
      "Ctrl-C ends the answer (exit code 130).\n\n"
      "Example:\n  vl2 ask -i examples/5-wide.png \"What colour is the square?\"\n"
      "  vl2 ask -i examples/7-three-in-a-row.png --boxes found.png \"<|ref|>the pink ring<|/ref|>\"\n"
      "  vl2 ask -i examples/5-wide.png --choices red,green,blue \"What colour is the square?\"");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
