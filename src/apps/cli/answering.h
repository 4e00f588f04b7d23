// What `vl2 ask` and `vl2 chat` share: a model opened with a progress line, and an answer that streams and can be
// stopped.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "apps/cli/interrupt.h"
#include "apps/cli/options.h"
#include "apps/cli/progress_line.h"
#include "core/processor/conversation.h"
#include "engine/runtime/engine.h"

namespace vl2::cli {

struct OpenedModel {
  std::unique_ptr<Engine> engine;
  double load_ms = 0;
};
// `lora`: the folder of an adapter, or empty. `processor`: the folder's, if it is open already.
OpenedModel open_model(const std::filesystem::path& folder, const std::string& lora, const ComputeOptions& compute,
                       int64_t max_context, ProgressLine& progress,
                       std::shared_ptr<const Processor> processor = nullptr);

Request make_request(MultimodalPrompt prompt, const AnswerOptions& options);

// Hands every piece of text to on_text as it comes. Ctrl-C cancels the request: the answer ends as kCancelled with what
// there is. The engine looks between its steps only, which can be seconds apart; we wait a moment and then leave it to
// finish its step alone. `progress` must outlive the engine. Throws the Error of a request that fails.
Answer stream_answer(Engine& engine, Request request, ProgressLine& progress, const InterruptWatch& interrupt,
                     const std::function<void(std::string_view)>& on_text);

// The answer on stdout as the model writes it, markup included; made harmless only where it could steer a terminal.
class AnswerWriter {
 public:
  AnswerWriter();
  void write(std::string_view text);
  void finish();  // ends the line, if the answer did not

 private:
  const bool terminal_;
  bool at_line_start_ = false;
};

// As the demo: placeholders that are missing stand on lines of their own before the text. kInvalidArgument: more
// placeholders than pictures.
std::string with_placeholders(const std::string& text, size_t num_pictures);

// Lines for people: what was read and written, and what took how long.
std::string timings_text(const Answer& answer, std::optional<double> load_ms);

}  // namespace vl2::cli
