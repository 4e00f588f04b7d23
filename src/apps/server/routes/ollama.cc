// POST /api/chat and /api/generate: Ollama's API over the same conversations. Streams are lines of JSON, and streaming
// is the default.
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/chat_run.h"
#include "apps/server/route.h"

namespace vl2::server {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::string_view kLines = "application/x-ndjson; charset=utf-8";

// `options` has the names of sampling that OpenAI's requests have at the top, but for a few.
AnswerParams parse_params(const Fields& fields, const ordered_json& forms) {
  static const json kNone = json::object();
  const json* options = fields.find("options");
  AnswerParams params = parse_answer_params(options != nullptr ? *options : kNone, ordered_json::object());
  const Fields inner(options != nullptr ? *options : kNone, "options");
  params.n = 1;
  params.sampling.repetition_penalty = inner.number("repeat_penalty", 0.01, 100).value_or(1);
  constexpr int64_t kMost = int64_t{1} << 30;
  if (const auto most = inner.integer("num_predict", -2, kMost); most && *most > 0) params.max_tokens = most;
  if (const auto format = forms.find("format"); format != forms.end())
    params.form = parse_bare_format(*format, "format");
  params.stream = fields.boolean("stream").value_or(true);
  for (const char* name : {"tools", "suffix", "template", "raw"})
    if (const json* value = fields.find(name); value != nullptr && !value->empty() && *value != "" && *value != false)
      fields.reject(name, "nothing: it is not supported", "unsupported_value");
  if (const json* think = fields.find("think"); think != nullptr && *think != false)
    fields.reject("think", "false: this model does not think first", "unsupported_value");
  return params;
}

ordered_json nanoseconds(double milliseconds) { return static_cast<int64_t>(milliseconds * 1e6); }

class OllamaReply {
 public:
  // `chat`: a message in each reply; otherwise a response.
  OllamaReply(RouteCall& call, std::string model, bool chat) : call_(call), model_(std::move(model)), chat_(chat) {}

  void loaded() {
    ordered_json reply = line("", true);
    reply["done_reason"] = "load";
    call_.http.reply(200, "application/json; charset=utf-8", dump_json(reply));
  }

  void whole(ChatRun& run) {
    ordered_json reply;
    Generation::Reader reader;
    reader.finish = [&](size_t i, const Answer& answer) { reply = last(run, i, answer, answer.text); };
    if (run.run(reader)) reply_json(call_, reply);
  }

  void stream(ChatRun& run) {
    call_.http.begin_events(kLines);
    Generation::Reader reader;
    reader.token = [&](size_t, const TokenEvent& event) {
      if (!event.text.empty()) send(line(event.text, false));
    };
    reader.finish = [&](size_t i, const Answer& answer) { send(last(run, i, answer, "")); };
    try {
      if (!run.run(reader)) return;
    } catch (const Error& error) {
      call_.notes.error = error.what();
      send(error_json(to_api_error(error), ErrorStyle::kOllama));
    }
    call_.http.end_events();
  }

 private:
  ordered_json line(const std::string& text, bool done) const {
    ordered_json out = {{"model", model_}, {"created_at", rfc3339(std::time(nullptr))}};
    if (chat_) {
      out["message"] = {{"role", "assistant"}, {"content", text}};
    } else {
      out["response"] = text;
    }
    out["done"] = done;
    return out;
  }

  ordered_json last(const ChatRun& run, size_t i, const Answer& answer, const std::string& text) const {
    const Timings& t = answer.timings;
    ordered_json out = line(text, true);
    out["done_reason"] = openai_finish_reason(answer.finish);
    out["total_duration"] = nanoseconds(t.total_ms());
    out["load_duration"] = 0;
    out["prompt_eval_count"] = answer.usage.prompt_tokens;
    out["prompt_eval_duration"] = nanoseconds(t.vision_ms + t.prefill_ms);
    out["eval_count"] = answer.usage.completion_tokens;
    out["eval_duration"] = nanoseconds(t.decode_ms);
    ordered_json found = run.grounding(i, answer.text);
    if (!found.empty()) out["grounding"] = std::move(found);
    return out;
  }

  void send(const ordered_json& value) { call_.http.write_events(dump_json(value) + "\n"); }

  RouteCall& call_;
  const std::string model_;
  const bool chat_;
};

std::vector<MediaSource> parse_images(const Fields& fields) {
  std::vector<MediaSource> result;
  const json* images = fields.find("images");
  if (images == nullptr) return result;
  if (!images->is_array()) fields.reject("images", "a list of pictures in base64");
  for (size_t i = 0; i < images->size(); ++i)
    result.push_back(parse_image_url((*images)[i], fmt::format("images[{}]", i)));
  return result;
}

void answer(RouteCall& call, bool is_chat) {
  call.server.engine();
  ordered_json forms;
  const json body = read_json(call, &forms);
  const Fields fields(body);
  OllamaReply reply(call, check_ollama_model(call, fields), is_chat);
  AnswerParams params = parse_params(fields, forms);
  ChatMessages chat;
  if (is_chat) {
    const json* messages = fields.find("messages");
    if (messages == nullptr || messages->empty()) return reply.loaded();  // "load the model"
    chat = parse_messages(body, "messages", Dialect::kOllama);
  } else {
    const std::string prompt = fields.string("prompt").value_or("");
    if (prompt.empty()) return reply.loaded();
    chat = one_question(prompt, parse_images(fields), fields.string("system").value_or(""));
  }
  ChatRun run(call, std::move(params), std::move(chat));
  run.params().stream ? reply.stream(run) : reply.whole(run);
}

}  // namespace

void answer_ollama_chat(RouteCall& call) { answer(call, true); }
void answer_ollama_generate(RouteCall& call) { answer(call, false); }

}  // namespace vl2::server
