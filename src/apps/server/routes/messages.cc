// POST /v1/messages and /v1/messages/count_tokens: Anthropic's Messages, whole or as server-sent events.
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

ChatMessages parse_conversation(const Fields& fields, const json& body) {
  const json* system = fields.find("system");
  return parse_messages(body, "messages", Dialect::kAnthropic, system != nullptr ? parse_text(*system, "system") : "");
}

std::vector<std::string> parse_stop_sequences(const Fields& fields) {
  std::vector<std::string> result;
  const json* list = fields.find("stop_sequences");
  if (list == nullptr) return result;
  constexpr size_t kMost = 16;
  if (!list->is_array() || list->size() > kMost) fields.reject("stop_sequences", "a list of at most 16 texts");
  for (const json& one : *list) {
    if (!one.is_string() || one.empty() || one == "") fields.reject("stop_sequences", "texts, none of them empty");
    result.push_back(one.get<std::string>());
  }
  return result;
}

// `output_config.format`, or `output_format` as it was called first. How much effort is wanted is no question here.
std::optional<AnswerForm> parse_form(const Fields& fields, const ordered_json& forms) {
  const ordered_json older = forms.value("output_format", ordered_json());
  const ordered_json config = forms.value("output_config", ordered_json());
  if (!config.is_null() && !config.is_object()) fields.reject("output_config", "an object with a format");
  const auto newer = config.find("format");
  if (newer == config.end() || newer->is_null()) return parse_response_format(older, "output_format");
  if (!older.is_null()) fields.reject("output_format", "nothing beside output_config.format, its newer name");
  return parse_response_format(*newer, "output_config.format");
}

AnswerParams parse_params(const Fields& fields, const json& body, const ordered_json& forms) {
  AnswerParams params = parse_answer_params(body, forms);
  params.n = 1;
  if (!params.max_tokens) fields.reject("max_tokens", "a whole number from 1");
  params.stop = parse_stop_sequences(fields);
  params.form = parse_form(fields, forms);
  if (const json* thinking = fields.find("thinking"))
    if (Fields(*thinking, "thinking").string("type").value_or("") != "disabled")
      fields.reject("thinking", "{\"type\": \"disabled\"}: this model does not think first", "unsupported_value");
  return params;
}

ordered_json stop_reason(const Answer& answer) {
  switch (answer.finish) {
    case FinishReason::kStopString:
      return "stop_sequence";
    case FinishReason::kLength:
    case FinishReason::kRepetition:
      return "max_tokens";
    default:
      return "end_turn";
  }
}

ordered_json stop_sequence(const Answer& answer) {
  return answer.stop_string ? ordered_json(*answer.stop_string) : ordered_json(nullptr);
}

class MessageReply {
 public:
  MessageReply(RouteCall& call, ChatRun& chat) : call_(call), chat_(chat), id_(call.server.new_id("msg_")) {}

  void whole() {
    ordered_json reply = message();
    Generation::Reader reader;
    reader.finish = [&](size_t i, const Answer& answer) {
      reply["content"] = ordered_json::array({{{"type", "text"}, {"text", answer.text}}});
      reply["stop_reason"] = stop_reason(answer);
      reply["stop_sequence"] = stop_sequence(answer);
      reply["usage"]["output_tokens"] = answer.usage.completion_tokens;
      add_more(i, answer, reply);
    };
    if (chat_.run(reader)) reply_json(call_, reply);
  }

  void stream() {
    call_.http.begin_events();
    send({{"type", "message_start"}, {"message", message()}});
    send({{"type", "content_block_start"}, {"index", 0}, {"content_block", {{"type", "text"}, {"text", ""}}}});
    send({{"type", "ping"}});
    Generation::Reader reader;
    reader.token = [&](size_t, const TokenEvent& event) {
      if (!event.text.empty())
        send(
            {{"type", "content_block_delta"}, {"index", 0}, {"delta", {{"type", "text_delta"}, {"text", event.text}}}});
    };
    reader.finish = [&](size_t i, const Answer& answer) {
      send({{"type", "content_block_stop"}, {"index", 0}});
      ordered_json last = {{"type", "message_delta"},
                           {"delta", {{"stop_reason", stop_reason(answer)}, {"stop_sequence", stop_sequence(answer)}}},
                           {"usage", {{"output_tokens", answer.usage.completion_tokens}}}};
      add_more(i, answer, last);
      send(last);
    };
    reader.idle = [&] { send({{"type", "ping"}}); };
    try {
      if (!chat_.run(reader)) return;
    } catch (const Error& error) {
      call_.notes.error = error.what();
      send(error_json(to_api_error(error), ErrorStyle::kAnthropic));
      return call_.http.end_events();
    }
    send({{"type", "message_stop"}});
    call_.http.end_events();
  }

 private:
  ordered_json message() const {
    return {{"id", id_},
            {"type", "message"},
            {"role", "assistant"},
            {"model", call_.server.model_id()},
            {"content", ordered_json::array()},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"usage", {{"input_tokens", chat_.prompt_tokens()}, {"output_tokens", 0}}}};
  }

  // Beyond Anthropic's own.
  void add_more(size_t i, const Answer& answer, ordered_json& out) const {
    ordered_json found = chat_.grounding(i, answer.text);
    if (!found.empty()) out["grounding"] = std::move(found);
    out["timings"] = timings_json(answer);
  }

  void send(const ordered_json& event) { call_.http.write_events(sse_typed_event(event)); }

  RouteCall& call_;
  ChatRun& chat_;
  const std::string id_;
};

}  // namespace

void answer_messages(RouteCall& call) {
  call.server.engine();
  ordered_json forms;
  const json body = read_json(call, &forms);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  AnswerParams params = parse_params(fields, body, forms);
  ChatRun chat(call, std::move(params), parse_conversation(fields, body));
  MessageReply reply(call, chat);
  chat.params().stream ? reply.stream() : reply.whole();
}

void answer_message_tokens(RouteCall& call) {
  call.server.engine();
  const json body = read_json(call);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  const bool special = fields.boolean("allow_special").value_or(false);
  reply_json(call, {{"input_tokens", count_prompt_tokens(call, parse_conversation(fields, body), special)}});
}

}  // namespace vl2::server
