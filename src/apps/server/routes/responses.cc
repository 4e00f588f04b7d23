// POST /v1/responses and /v1/responses/input_tokens: OpenAI's newer API. Nothing is stored, so an answer cannot be
// referred to later.
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

ChatMessages parse_input(const Fields& fields, const json& body) {
  const json* instructions = fields.find("instructions");
  const std::string system = instructions != nullptr ? parse_text(*instructions, "instructions") : "";
  const json* input = fields.find("input");
  if (input == nullptr || !(input->is_string() || input->is_array()))
    fields.reject("input", "a text or a list of messages");
  if (input->is_string()) return one_question(input->get<std::string>(), {}, system);
  return parse_messages(body, "input", Dialect::kResponses, system);
}

void refuse_memory(const Fields& fields) {
  for (const char* name : {"previous_response_id", "conversation", "prompt"})
    if (fields.find(name) != nullptr)
      fields.reject(name, "nothing: answers are not kept; send the whole conversation", "unsupported_value");
  if (fields.boolean("background").value_or(false)) fields.reject("background", "false", "unsupported_value");
}

AnswerParams parse_params(const Fields& fields, const json& body, const ordered_json& forms) {
  refuse_memory(fields);
  AnswerParams params = parse_answer_params(body, forms);
  params.n = 1;
  constexpr int64_t kMost = int64_t{1} << 30;
  if (const auto most = fields.integer("max_output_tokens", 1, kMost)) params.max_tokens = most;
  if (const auto text = forms.find("text"); text != forms.end() && !text->is_null()) {
    if (!text->is_object()) fields.reject("text", "an object");
    if (const auto format = text->find("format"); format != text->end())
      params.form = parse_response_format(*format, "text.format");
  }
  return params;
}

class ResponseReply {
 public:
  ResponseReply(RouteCall& call, ChatRun& chat, const json& body)
      : call_(call),
        chat_(chat),
        id_(call.server.new_id("resp_")),
        item_id_(call.server.new_id("msg_")),
        created_(std::time(nullptr)) {
    // What the client said comes back as it was.
    for (const char* name : {"instructions", "max_output_tokens", "metadata", "text", "temperature", "top_p", "user"})
      if (const auto at = body.find(name); at != body.end()) echoed_[name] = *at;
  }

  void whole() {
    ordered_json reply;
    Generation::Reader reader;
    reader.finish = [&](size_t, const Answer& answer) { reply = finished(answer); };
    if (chat_.run(reader)) reply_json(call_, reply);
  }

  void stream() {
    call_.http.begin_events();
    send("response.created", {{"response", response("in_progress")}});
    send("response.in_progress", {{"response", response("in_progress")}});
    send("response.output_item.added", {{"output_index", 0}, {"item", item("in_progress", ordered_json::array())}});
    send_part("response.content_part.added", {{"part", part("")}});
    ordered_json last;
    std::string text;
    Generation::Reader reader;
    reader.token = [&](size_t, const TokenEvent& event) {
      if (!event.text.empty())
        send_part("response.output_text.delta", {{"delta", event.text}, {"logprobs", ordered_json::array()}});
    };
    reader.finish = [&](size_t, const Answer& answer) {
      text = answer.text;
      last = finished(answer);
    };
    reader.idle = [&] { call_.http.write_events(kSsePing); };
    try {
      if (!chat_.run(reader)) return;
    } catch (const Error& error) {
      fail_with(to_api_error(error));
      return call_.http.end_events();
    }
    const ordered_json& done = last.at("output").at(0);
    send_part("response.output_text.done", {{"text", text}, {"logprobs", ordered_json::array()}});
    send_part("response.content_part.done", {{"part", done.at("content").at(0)}});
    send("response.output_item.done", {{"output_index", 0}, {"item", done}});
    send("response." + last.at("status").get<std::string>(), {{"response", last}});
    call_.http.end_events();
  }

 private:
  ordered_json response(const char* status) const {
    ordered_json out = {{"id", id_},
                        {"object", "response"},
                        {"created_at", created_},
                        {"status", status},
                        {"background", false},
                        {"error", nullptr},
                        {"incomplete_details", nullptr},
                        {"instructions", nullptr},
                        {"max_output_tokens", nullptr},
                        {"model", call_.server.model_id()},
                        {"output", ordered_json::array()},
                        {"parallel_tool_calls", false},
                        {"previous_response_id", nullptr},
                        {"store", false},
                        {"temperature", chat_.params().sampling.temperature},
                        {"text", {{"format", {{"type", "text"}}}}},
                        {"tool_choice", "none"},
                        {"tools", ordered_json::array()},
                        {"top_p", chat_.params().sampling.top_p},
                        {"truncation", "disabled"},
                        {"usage", nullptr},
                        {"metadata", ordered_json::object()}};
    out.update(echoed_);
    return out;
  }
  static ordered_json part(const std::string& text) {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", ordered_json::array()},
            {"logprobs", ordered_json::array()}};
  }
  ordered_json item(const char* status, ordered_json content) const {
    return {{"id", item_id_},
            {"type", "message"},
            {"role", "assistant"},
            {"status", status},
            {"content", std::move(content)}};
  }

  ordered_json finished(const Answer& answer) const {
    const bool cut = std::string_view(openai_finish_reason(answer.finish)) == "length";
    const char* status = cut ? "incomplete" : "completed";
    ordered_json content = part(answer.text);
    if (ordered_json found = chat_.grounding(0, answer.text); !found.empty()) content["grounding"] = std::move(found);
    ordered_json out = response(status);
    if (cut) out["incomplete_details"] = {{"reason", "max_output_tokens"}};
    out["output"].push_back(item(status, ordered_json::array({std::move(content)})));
    const Usage& usage = answer.usage;
    out["usage"] = {{"input_tokens", usage.prompt_tokens},
                    {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
                    {"output_tokens", usage.completion_tokens},
                    {"output_tokens_details", {{"reasoning_tokens", 0}}},
                    {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
    out["timings"] = timings_json(answer);
    return out;
  }

  void fail_with(const ApiError& error) {
    call_.notes.error = error.what();
    ordered_json failed = response("failed");
    failed["error"] = {{"code", error.status() < 500 ? "invalid_prompt" : "server_error"}, {"message", error.what()}};
    send("response.failed", {{"response", std::move(failed)}});
  }

  void send(const std::string& type, const ordered_json& more) {
    ordered_json event = {{"type", type}, {"sequence_number", sequence_++}};
    event.update(more);
    call_.http.write_events(sse_typed_event(event));
  }
  void send_part(const std::string& type, const ordered_json& more) {
    ordered_json event = {{"item_id", item_id_}, {"output_index", 0}, {"content_index", 0}};
    event.update(more);
    send(type, event);
  }

  RouteCall& call_;
  ChatRun& chat_;
  const std::string id_, item_id_;
  const std::time_t created_;
  ordered_json echoed_ = ordered_json::object();
  int64_t sequence_ = 0;
};

}  // namespace

void answer_responses(RouteCall& call) {
  call.server.engine();
  ordered_json forms;
  const json body = read_json(call, &forms);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  AnswerParams params = parse_params(fields, body, forms);
  ChatRun chat(call, std::move(params), parse_input(fields, body));
  ResponseReply reply(call, chat, body);
  chat.params().stream ? reply.stream() : reply.whole();
}

void answer_response_tokens(RouteCall& call) {
  call.server.engine();
  const json body = read_json(call);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  refuse_memory(fields);
  const bool special = fields.boolean("allow_special").value_or(false);
  reply_json(call, {{"object", "response.input_tokens"},
                    {"input_tokens", count_prompt_tokens(call, parse_input(fields, body), special)}});
}

}  // namespace vl2::server
