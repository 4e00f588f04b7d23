// POST /v1/completions: text to go on with, OpenAI's older form. `images` are an addition: each stands where the next
// "<image>" of the prompt is.
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/api_reply.h"
#include "apps/server/generation.h"
#include "apps/server/prompt.h"
#include "apps/server/route.h"
#include "core/base/json.h"

namespace vl2::server {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kMostLogprobs = 5;
constexpr size_t kMostPrompts = 64;
constexpr int64_t kDefaultTokens = 16;  // OpenAI's

struct CompletionPrompt {
  MultimodalPrompt prompt;
  std::string echo;
};

bool is_ids(const json& value) { return value.is_array() && !value.empty() && value.front().is_number(); }

std::vector<const json*> list_prompts(const Fields& fields) {
  const json* prompt = fields.find("prompt");
  if (prompt == nullptr) fields.reject("prompt", "a text, a list of texts, token ids or lists of them");
  if (prompt->is_string() || is_ids(*prompt)) return {prompt};
  if (!prompt->is_array() || prompt->empty() || prompt->size() > kMostPrompts)
    fields.reject("prompt", fmt::format("a text, token ids, or a list of 1 to {} of them", kMostPrompts));
  std::vector<const json*> result;
  for (const json& one : *prompt) result.push_back(&one);
  return result;
}

CompletionPrompt from_ids(RouteCall& call, const Fields& fields, const json& ids, bool echo) {
  CompletionPrompt result;
  const Tokenizer& tokenizer = call.server.engine().tokenizer();
  for (const json& id : ids) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX || !tokenizer.has(id.get<int32_t>()))
      throw ApiError(400, fmt::format("prompt: {} is no token id of this model", describe_json(id)), "",
                     fields.name("prompt"));
    result.prompt.input_ids.push_back(id.get<int32_t>());
  }
  result.prompt.images_seq_mask.assign(result.prompt.input_ids.size(), 0);
  check_context(call.server, result.prompt, "prompt");
  if (echo) result.echo = tokenizer.decode(result.prompt.input_ids);
  return result;
}

class CompletionRequest {
 public:
  explicit CompletionRequest(RouteCall& call) {
    ordered_json forms;
    const json body = read_json(call, &forms);
    const Fields fields(body);
    call.server.check_model(fields.string("model").value_or(""));
    params = parse_answer_params(body, forms);
    if (params.lora) check_lora(call.server.engine(), *params.lora, "lora");
    if (params.form) params.constraint = compile_form(call.server.engine(), *params.form);
    if (!params.max_tokens) params.max_tokens = kDefaultTokens;
    if (const auto suffix = fields.string("suffix"); suffix && !suffix->empty())
      fields.reject("suffix", "nothing: it is not supported", "unsupported_value");
    if (const auto logprobs = fields.integer("logprobs", 0, kMostLogprobs)) {
      params.logprobs = true;
      params.top_logprobs = static_cast<int>(*logprobs);
    }
    echo = fields.boolean("echo").value_or(false);
    if (echo && params.logprobs)
      fields.reject("echo", "false beside logprobs: those of a prompt are not computed", "unsupported_value");
    read_prompts(call, fields);
  }

  AnswerParams params;
  bool echo = false;
  std::vector<CompletionPrompt> prompts;

 private:
  void read_prompts(RouteCall& call, const Fields& fields) {
    const std::vector<const json*> list = list_prompts(fields);
    std::vector<MediaSource> sources;
    if (const json* images = fields.find("images")) {
      if (!images->is_array() || list.size() != 1 || !list.front()->is_string())
        fields.reject("images", "a list of pictures for one prompt that is a text");
      for (size_t i = 0; i < images->size(); ++i)
        sources.push_back(parse_image_url((*images)[i], fmt::format("images[{}]", i)));
    }
    const LoadedPictures pictures = load_pictures(call.server, std::move(sources));
    for (const json* one : list) {
      if (is_ids(*one)) {
        prompts.push_back(from_ids(call, fields, *one, echo));
        continue;
      }
      if (!one->is_string()) fields.reject("prompt", "texts or lists of token ids, none of them empty");
      const auto text = one->get<std::string>();
      // Without pictures an "<image>" is text like any other.
      const std::string placeholder =
          pictures.sizes.empty() ? std::string(kPictureMark) : call.server.engine().processor().config().image_token;
      prompts.push_back({build_text(call.server, text, placeholder, pictures, params.allow_special), echo ? text : ""});
    }
  }
};

// The older form of log-probabilities, of one choice or one piece of it.
class LegacyLogprobs {
 public:
  void add(const Tokenizer& tokenizer, const TokenEvent& event) {
    ordered_json top = ordered_json::object();
    for (const TokenLogprob& one : event.top) top[token_string(tokenizer, one.id)] = finite_logprob(one.logprob);
    tokens_.push_back(token_string(tokenizer, event.id));
    logprobs_.push_back(finite_logprob(event.logprob));
    top_.push_back(std::move(top));
    offsets_.push_back(offset_);
    offset_ += tokens_.back().get_ref<const std::string&>().size();
  }

  ordered_json take() {
    ordered_json out = {
        {"tokens", tokens_}, {"token_logprobs", logprobs_}, {"top_logprobs", top_}, {"text_offset", offsets_}};
    tokens_ = logprobs_ = top_ = offsets_ = ordered_json::array();
    return out;
  }

 private:
  ordered_json tokens_ = ordered_json::array(), logprobs_ = ordered_json::array(), top_ = ordered_json::array(),
               offsets_ = ordered_json::array();
  size_t offset_ = 0;
};

class CompletionReply {
 public:
  CompletionReply(RouteCall& call, const CompletionRequest& request, size_t choices)
      : call_(call),
        request_(request),
        tokenizer_(call.server.engine().tokenizer()),
        eos_(call.server.engine().processor().special().eos),
        id_(call.server.new_id("cmpl-")),
        created_(std::time(nullptr)),
        logprobs_(choices) {}

  void whole(Generation& generation) {
    std::vector<ordered_json> done(logprobs_.size());
    Generation::Reader reader;
    reader.token = [&](size_t i, const TokenEvent& event) { note(i, event); };
    reader.finish = [&](size_t i, const Answer& answer) {
      done[i] = choice(i, echo_of(i) + answer.text, nullptr);
      add_finish(answer.finish, done[i]);
    };
    if (!generation.run(reader)) return;
    ordered_json reply = envelope();
    reply["choices"] = std::move(done);
    reply["usage"] = usage_json(generation.usage());
    reply_json(call_, reply);
  }

  void stream(Generation& generation) {
    call_.http.begin_events();
    for (size_t i = 0; i < logprobs_.size(); ++i)
      if (!echo_of(i).empty())
        send({{"index", i}, {"text", echo_of(i)}, {"logprobs", nullptr}, {"finish_reason", nullptr}});
    Generation::Reader reader;
    reader.token = [&](size_t i, const TokenEvent& event) {
      note(i, event);
      if (!event.text.empty()) send(choice(i, event.text, nullptr));
    };
    reader.finish = [&](size_t i, const Answer& answer) {
      ordered_json last = choice(i, "", nullptr);
      add_finish(answer.finish, last);
      send(std::move(last));
    };
    reader.idle = [&] { call_.http.write_events(kSsePing); };
    try {
      if (!generation.run(reader)) return;
    } catch (const Error& error) {
      call_.notes.error = error.what();
      call_.http.write_events(sse_event(error_json(to_api_error(error))));
      call_.http.end_events();
      return;
    }
    if (request_.params.include_usage) {
      ordered_json chunk = envelope();
      chunk["choices"] = ordered_json::array();
      chunk["usage"] = usage_json(generation.usage());
      call_.http.write_events(sse_event(chunk));
    }
    call_.http.write_events(kSseDone);
    call_.http.end_events();
  }

 private:
  ordered_json envelope() const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", call_.server.model_id()},
            {"system_fingerprint", "vl2-" VL2_VERSION}};
  }
  const std::string& echo_of(size_t i) const {
    return request_.prompts[i / static_cast<size_t>(request_.params.n)].echo;
  }
  void note(size_t i, const TokenEvent& event) {
    if (request_.params.logprobs && event.id != eos_) logprobs_[i].add(tokenizer_, event);
  }
  ordered_json choice(size_t i, const std::string& text, ordered_json finish_reason) {
    return {{"index", i},
            {"text", text},
            {"logprobs", request_.params.logprobs ? logprobs_[i].take() : ordered_json(nullptr)},
            {"finish_reason", std::move(finish_reason)}};
  }
  void send(ordered_json one) {
    ordered_json chunk = envelope();
    chunk["choices"] = ordered_json::array({std::move(one)});
    if (request_.params.include_usage) chunk["usage"] = nullptr;
    call_.http.write_events(sse_event(chunk));
  }

  RouteCall& call_;
  const CompletionRequest& request_;
  const Tokenizer& tokenizer_;
  const int32_t eos_;
  const std::string id_;
  const std::time_t created_;
  std::vector<LegacyLogprobs> logprobs_;
};

}  // namespace

void answer_completions(RouteCall& call) {
  call.server.engine();
  CompletionRequest request(call);
  auto ticket = call.server.admit(static_cast<int64_t>(request.prompts.size()) * request.params.n);
  std::vector<Request> requests;
  const uint64_t seed = request.params.seed.value_or(call.server.random());
  for (const CompletionPrompt& prompt : request.prompts)
    for (Request& one : make_requests(call.server, prompt.prompt, request.params, seed))
      requests.push_back(std::move(one));
  Generation generation(call, std::move(ticket), std::move(requests), request.params.n);
  CompletionReply reply(call, request, generation.size());
  request.params.stream ? reply.stream(generation) : reply.whole(generation);
}

}  // namespace vl2::server
