// What `vl2 ask` and `vl2 chat` share: a model opened with a progress line, and an answer that streams and can be
// stopped.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
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
OpenedModel open_model(const std::filesystem::path& folder, const ComputeOptions& compute, int64_t max_context,
                       ProgressLine& progress);

Request make_request(MultimodalPrompt prompt, const AnswerOptions& options);

// Hands every piece of text to on_text as it comes. Ctrl-C cancels the request: the answer ends as kCancelled with what
// there is. Throws the Error of a request that fails.
Answer stream_answer(Engine& engine, Request request, ProgressLine& progress, const InterruptWatch& interrupt,
                     const std::function<void(std::string_view)>& on_text);

// As the demo: placeholders that are missing stand on lines of their own before the text. kInvalidArgument: more
// placeholders than pictures.
std::string with_placeholders(const std::string& text, size_t num_pictures);

// Two lines: what was read and written, and what took how long.
std::string timings_text(const Answer& answer, double load_ms);

}  // namespace vl2::cli
