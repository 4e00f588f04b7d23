// vl2 chat: many turns about pictures; the turns themselves are in chat_session.
#include <CLI/CLI.hpp>
#include <memory>

#include "apps/cli/chat_session.h"
#include "apps/cli/commands.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/terminal.h"

namespace vl2::cli {
namespace {

struct ChatOptions {
  std::string model, lora, system;
  std::vector<std::string> pictures;
  ComputeOptions compute;
  ChatSettings settings;
};

int run(const ChatOptions& options) {
  if (std::find(options.pictures.begin(), options.pictures.end(), "-") != options.pictures.end())
    throw UsageError("-i - is not possible here, because stdin is the conversation; give a path");
  Conversation conversation;
  conversation.set_system(options.system);
  for (const std::string& picture : options.pictures)
    conversation.attach(read_picture(picture, options.settings.pictures));
  ProgressLine progress("chat");
  const OpenedModel model = open_model(find_model(options.model), options.lora, options.compute,
                                       options.settings.answer.max_context, progress);
  progress.clear();
  return ChatSession(*model.engine, progress, options.settings, std::move(conversation)).run() ? kExitOk : kExitFailed;
}

}  // namespace

RunCommand declare_chat(CLI::App& app) {
  const auto options = std::make_shared<ChatOptions>();
  app.add_option("-i,--image", options->pictures, "A picture for the first message; may be given several times")
      ->type_name("IMAGE")
      ->allow_extra_args(false);
  add_model_option(app, options->model);
  add_lora_option(app, options->lora);
  app.add_option("--system", options->system, "Text in front of the conversation")->type_name("TEXT");
  add_answer_options(app, options->settings.answer);
  add_compute_options(app, options->compute);
  add_picture_options(app, options->settings.pictures);
  app.footer(
      "/image PATH attaches a picture, /system TEXT, /retry, /clear, /help, /quit. Ctrl-C stops an answer. When the\n"
      "conversation outgrows the context, its oldest messages are forgotten. Where stdin is no terminal, every line "
      "is\n"
      "a message or a command.\n\n"
      "Example:\n  vl2 chat -i examples/5-wide.png\n"
      "  printf '/image examples/5-wide.png\\nWhat colour is the square?\\n' | vl2 chat");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
