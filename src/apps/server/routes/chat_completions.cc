// POST /v1/chat/completions: OpenAI's chat, whole or as server-sent events.
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

constexpr int kMostTopLogprobs = 20;

struct ChatRequest {
  AnswerParams params;
  ChatMessages chat;
};

ChatRequest parse(RouteCall& call) {
  ordered_json forms;
  const json body = read_json(call, &forms);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  ChatRequest request;
  request.params = parse_answer_params(body, forms);
  request.params.logprobs = fields.boolean("logprobs").value_or(false);
  request.params.top_logprobs = static_cast<int>(fields.integer("top_logprobs", 0, kMostTopLogprobs).value_or(0));
  if (request.params.top_logprobs > 0 && !request.params.logprobs)
    fields.reject("top_logprobs", "0, or logprobs to be true");
  request.chat = parse_chat_messages(body);
  return request;
}

// One reply in the making; both of its forms.
class ChatReply {
 public:
  ChatReply(RouteCall& call, ChatRun& chat)
      : call_(call),
        chat_(chat),
        params_(chat.params()),
        tokenizer_(call.server.engine().tokenizer()),
        eos_(call.server.engine().processor().special().eos),
        id_(call.server.new_id("chatcmpl-")),
        created_(std::time(nullptr)),
        choices_(chat.size()),
        shown_(chat.size()) {}

  void whole() {
    std::vector<ordered_json> done(choices_.size());
    ordered_json timings;
    double longest = -1;
    Generation::Reader reader;
    reader.token = [&](size_t i, const TokenEvent& event) { note_logprob(i, event); };
    reader.finish = [&](size_t i, const Answer& answer) {
      ordered_json message = {{"role", "assistant"}, {"content", answer.text}, {"refusal", nullptr}};
      done[i] = {{"index", i}, {"message", std::move(message)}, {"logprobs", take_logprobs(i, true)}};
      add_finish(answer.finish, done[i]);
      add_grounding(i, answer.text, done[i]);
      if (answer.timings.total_ms() <= longest) return;
      longest = answer.timings.total_ms();
      timings = timings_json(answer);
    };
    if (!chat_.run(reader)) return;
    ordered_json reply = envelope("chat.completion");
    reply["choices"] = std::move(done);
    reply["usage"] = usage_json(chat_.usage());
    reply["timings"] = std::move(timings);
    reply_json(call_, reply);
  }

  void stream() {
    call_.http.begin_events();
    // The role comes first and alone: a client's helper that sees text before it gives up.
    for (size_t i = 0; i < choices_.size(); ++i) send(i, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    Generation::Reader reader;
    reader.token = [&](size_t i, const TokenEvent& event) {
      note_logprob(i, event);
      if (event.text.empty()) return;
      ordered_json delta = {{"content", event.text}};
      add_closed_boxes(i, event.text, delta);
      send(i, std::move(delta), take_logprobs(i, false), nullptr);
    };
    reader.progress = [&](size_t i, const PromptProgress& progress) { send_progress(i, progress); };
    reader.finish = [&](size_t i, const Answer& answer) { finish(i, answer); };
    reader.idle = [&] { call_.http.write_events(kSsePing); };
    try {
      if (!chat_.run(reader)) return;
    } catch (const Error& error) {
      // The status is out already. No [DONE] behind it: the answer is not complete.
      call_.notes.error = error.what();
      call_.http.write_events(sse_event(error_json(to_api_error(error))));
      call_.http.end_events();
      return;
    }
    if (params_.include_usage) {
      ordered_json chunk = envelope("chat.completion.chunk");
      chunk["choices"] = ordered_json::array();
      chunk["usage"] = usage_json(chat_.usage());
      call_.http.write_events(sse_event(chunk));
    }
    call_.http.write_events(kSseDone);
    call_.http.end_events();
  }

 private:
  ordered_json envelope(const char* object) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", call_.server.model_id()},
            {"system_fingerprint", "vl2-" VL2_VERSION}};
  }

  void finish(size_t i, const Answer& answer) {
    if (!choices_[i].empty()) send(i, {{"content", ""}}, take_logprobs(i, false), nullptr);
    ordered_json choice = {{"index", i}, {"delta", ordered_json::object()}, {"logprobs", nullptr}};
    add_finish(answer.finish, choice);
    add_grounding(i, answer.text, choice);
    ordered_json chunk = envelope("chat.completion.chunk");
    chunk["choices"] = ordered_json::array({std::move(choice)});
    if (params_.include_usage) chunk["usage"] = nullptr;
    chunk["timings"] = timings_json(answer);
    call_.http.write_events(sse_event(chunk));
  }

  void send_progress(size_t i, const PromptProgress& progress) {
    ordered_json chunk = envelope("chat.completion.chunk");
    chunk["choices"] = ordered_json::array(
        {{{"index", i}, {"delta", ordered_json::object()}, {"logprobs", nullptr}, {"finish_reason", nullptr}}});
    if (params_.include_usage) chunk["usage"] = nullptr;
    chunk["prompt_progress"] = {{"total", progress.total},
                                {"cache", progress.cached},
                                {"processed", progress.processed},
                                {"time_ms", static_cast<int64_t>(progress.milliseconds)}};
    call_.http.write_events(sse_event(chunk));
  }

  // A list of boxes is complete with its closing tag: what it locates comes along.
  void add_closed_boxes(size_t i, const std::string& text, ordered_json& delta) {
    constexpr std::string_view kClosed = "<|/det|>";
    Shown& shown = shown_[i];
    const size_t before = shown.text.size();
    shown.text += text;
    const size_t closed = shown.text.rfind(kClosed);
    if (closed == std::string::npos || closed + kClosed.size() <= before) return;
    ordered_json found = chat_.grounding(i, std::string_view(shown.text).substr(0, closed + kClosed.size()));
    if (found.size() <= shown.located) return;
    delta["grounding"] = ordered_json(found.begin() + static_cast<std::ptrdiff_t>(shown.located), found.end());
    shown.located = found.size();
  }

  void send(size_t i, ordered_json delta, ordered_json logprobs, ordered_json finish_reason) {
    ordered_json chunk = envelope("chat.completion.chunk");
    ordered_json choice = {{"index", i},
                           {"delta", std::move(delta)},
                           {"logprobs", std::move(logprobs)},
                           {"finish_reason", std::move(finish_reason)}};
    chunk["choices"] = ordered_json::array({std::move(choice)});
    if (params_.include_usage) chunk["usage"] = nullptr;
    call_.http.write_events(sse_event(chunk));
  }

  // An end that is ignored is a token like others, though it has no text.
  void note_logprob(size_t i, const TokenEvent& event) {
    if (params_.logprobs && (event.id != eos_ || params_.ignore_eos))
      choices_[i].push_back(logprob_json(tokenizer_, event));
  }

  // Those since the last time; null without any, but for a whole reply.
  ordered_json take_logprobs(size_t i, bool always) {
    if (!params_.logprobs || (choices_[i].empty() && !always)) return nullptr;
    return {{"content", std::exchange(choices_[i], ordered_json::array())}, {"refusal", nullptr}};
  }

  void add_grounding(size_t i, const std::string& text, ordered_json& choice) const {
    ordered_json found = chat_.grounding(i, text);
    if (!found.empty()) choice["grounding"] = std::move(found);
  }

  RouteCall& call_;
  ChatRun& chat_;
  const AnswerParams& params_;
  const Tokenizer& tokenizer_;
  const int32_t eos_;
  const std::string id_;
  const std::time_t created_;
  std::vector<ordered_json> choices_;  // log-probabilities that have not been sent
  struct Shown {
    std::string text;
    size_t located = 0;  // things on the picture that were sent
  };
  std::vector<Shown> shown_;  // of streams
};

}  // namespace

void answer_chat_completions(RouteCall& call) {
  call.server.engine();  // nothing is read while there is none
  ChatRequest request = parse(call);
  ChatRun chat(call, std::move(request.params), std::move(request.chat));
  ChatReply reply(call, chat);
  chat.params().stream ? reply.stream() : reply.whole();
}

}  // namespace vl2::server
