// POST /v1/chat/completions: OpenAI's chat, whole or as server-sent events.
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/api_reply.h"
#include "apps/server/generation.h"
#include "apps/server/prompt.h"
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
  const json body = read_json(call);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  ChatRequest request;
  request.params = parse_answer_params(body);
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
  ChatReply(RouteCall& call, const AnswerParams& params, size_t choices, ImageSize picture, int64_t num_pictures)
      : call_(call),
        params_(params),
        tokenizer_(call.server.engine().tokenizer()),
        eos_(call.server.engine().processor().special().eos),
        picture_(picture),
        num_pictures_(num_pictures),
        id_(call.server.new_id("chatcmpl-")),
        created_(std::time(nullptr)),
        choices_(choices) {}

  void whole(Generation& generation) {
    std::vector<ordered_json> done(choices_.size());
    ordered_json timings;
    double longest = -1;
    Generation::Reader reader;
    reader.token = [&](size_t i, const TokenEvent& event) { note_logprob(i, event); };
    reader.finish = [&](size_t i, const Answer& answer) {
      ordered_json message = {{"role", "assistant"}, {"content", answer.text}, {"refusal", nullptr}};
      done[i] = {{"index", i},
                 {"message", std::move(message)},
                 {"logprobs", take_logprobs(i, true)},
                 {"finish_reason", openai_finish_reason(answer.finish)}};
      add_grounding(answer.text, done[i]);
      if (answer.timings.total_ms() <= longest) return;
      longest = answer.timings.total_ms();
      timings = timings_json(answer);
    };
    if (!generation.run(reader)) return;
    ordered_json reply = envelope("chat.completion");
    reply["choices"] = std::move(done);
    reply["usage"] = usage_json(generation.usage(), params_.n);
    reply["timings"] = std::move(timings);
    reply_json(call_, reply);
  }

  void stream(Generation& generation) {
    call_.http.begin_events();
    // The role comes first and alone: a client's helper that sees text before it gives up.
    for (size_t i = 0; i < choices_.size(); ++i) send(i, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    Generation::Reader reader;
    reader.token = [&](size_t i, const TokenEvent& event) {
      note_logprob(i, event);
      if (!event.text.empty()) send(i, {{"content", event.text}}, take_logprobs(i, false), nullptr);
    };
    reader.finish = [&](size_t i, const Answer& answer) { finish(i, answer); };
    reader.idle = [&] { call_.http.write_events(kSsePing); };
    try {
      if (!generation.run(reader)) return;
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
      chunk["usage"] = usage_json(generation.usage(), params_.n);
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
    ordered_json choice = {{"index", i},
                           {"delta", ordered_json::object()},
                           {"logprobs", nullptr},
                           {"finish_reason", openai_finish_reason(answer.finish)}};
    add_grounding(answer.text, choice);
    ordered_json chunk = envelope("chat.completion.chunk");
    chunk["choices"] = {std::move(choice)};
    if (params_.include_usage) chunk["usage"] = nullptr;
    chunk["timings"] = timings_json(answer);
    call_.http.write_events(sse_event(chunk));
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

  void note_logprob(size_t i, const TokenEvent& event) {
    if (params_.logprobs && event.id != eos_) choices_[i].push_back(logprob_json(tokenizer_, event));
  }

  // Those since the last time; null without any, but for a whole reply.
  ordered_json take_logprobs(size_t i, bool always) {
    if (!params_.logprobs || (choices_[i].empty() && !always)) return nullptr;
    return {{"content", std::exchange(choices_[i], ordered_json::array())}, {"refusal", nullptr}};
  }

  void add_grounding(const std::string& text, ordered_json& choice) const {
    if (num_pictures_ == 0) return;
    ordered_json found = grounding_json(text, picture_, num_pictures_ - 1);
    if (!found.empty()) choice["grounding"] = std::move(found);
  }

  RouteCall& call_;
  const AnswerParams& params_;
  const Tokenizer& tokenizer_;
  const int32_t eos_;
  const ImageSize picture_;  // the last one: it is the one boxes are about
  const int64_t num_pictures_;
  const std::string id_;
  const std::time_t created_;
  std::vector<ordered_json> choices_;  // log-probabilities that have not been sent
};

}  // namespace

void answer_chat_completions(RouteCall& call) {
  call.server.engine();  // nothing is read while there is none
  ChatRequest request = parse(call);
  // Before pictures are decoded: what cannot be answered shall cost little.
  auto ticket = call.server.admit(request.params.n);
  const auto num_pictures = static_cast<int64_t>(request.chat.pictures.size());
  ImageSize last_picture;
  std::vector<Request> requests;
  {
    const LoadedPictures pictures = load_pictures(call.server, std::move(request.chat.pictures));
    if (!pictures.sizes.empty()) last_picture = pictures.sizes.back();
    const MultimodalPrompt prompt =
        build_chat(call.server, request.chat.messages, pictures, request.params.allow_special);
    requests = make_requests(call.server, prompt, request.params, request.params.seed.value_or(call.server.random()));
  }
  Generation generation(call, std::move(ticket), std::move(requests));
  ChatReply reply(call, request.params, generation.size(), last_picture, num_pictures);
  request.params.stream ? reply.stream(generation) : reply.whole(generation);
}

}  // namespace vl2::server
