// A route: a method, a path, and the function that answers. Each has a file under routes/, and a line in routes.cc.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/server/api_error.h"
#include "apps/server/context.h"
#include "apps/server/http_exchange.h"

namespace vl2::server {

class Fields;

// What the log says about a request besides its status.
struct RequestNotes {
  std::string id, route;
  std::string peer, key;   // the client's address; the name of its key
  std::string limited_as;  // the client of the rate limiter; empty: no limits here
  int64_t answers = 0, prompt_tokens = 0, completion_tokens = 0, image_tokens = 0, cached_tokens = 0, tiles = 0;
  double queue_ms = 0, vision_ms = 0, prefill_ms = 0, first_token_ms = 0, decode_ms = 0, longest_pause_ms = 0;
  std::vector<std::string> prompts, texts;  // of prompts and answers, if they are logged
  std::string finish, error;
  ErrorStyle errors = ErrorStyle::kOpenAi;  // as the client expects them
};

struct RouteCall {
  ServerContext& server;
  HttpExchange& http;
  RequestNotes& notes;
  std::string tail;  // what stood in place of the path's *
};

struct Route {
  std::string_view method;          // "GET" answers HEAD too
  std::string_view path;            // without /v1; a * at the end takes the rest, slashes included
  bool open;                        // without a key
  void (*answer)(RouteCall& call);  // throws Error for what it cannot do
  ErrorStyle errors = ErrorStyle::kOpenAi;
};

std::span<const Route> routes();

// The body as JSON of any kind. ApiError 400.
nlohmann::json read_json_value(RouteCall& call);
// The body as one JSON object. ApiError 400: not JSON, not UTF-8, too deep, no object. `forms`: those of its members
// that hold schemas (response_format, text, format, output_format, output_config), with all keys in the order they were
// written.
nlohmann::json read_json(RouteCall& call, nlohmann::ordered_json* forms = nullptr);
void reply_json(RouteCall& call, const nlohmann::ordered_json& value, int status = 200);
// The name of the model as Ollama's clients give it, perhaps with a tag: "nano:latest" is "nano". ApiError 400, 404.
std::string check_ollama_model(const RouteCall& call, const Fields& fields);

void answer_root(RouteCall& call);
void answer_page(RouteCall& call);
void answer_health(RouteCall& call);
void answer_ready(RouteCall& call);
void answer_version(RouteCall& call);
void answer_metrics(RouteCall& call);
void answer_models(RouteCall& call);
void answer_model(RouteCall& call);
void answer_chat_completions(RouteCall& call);
void answer_completions(RouteCall& call);
void answer_embeddings(RouteCall& call);
void answer_responses(RouteCall& call);
void answer_response_tokens(RouteCall& call);
void answer_messages(RouteCall& call);
void answer_message_tokens(RouteCall& call);
void answer_ollama_chat(RouteCall& call);
void answer_ollama_generate(RouteCall& call);
void answer_ollama_tags(RouteCall& call);
void answer_ollama_ps(RouteCall& call);
void answer_ollama_show(RouteCall& call);
void answer_ollama_version(RouteCall& call);
void answer_ollama_embed(RouteCall& call);
void answer_ollama_embeddings(RouteCall& call);
void answer_ollama_pull(RouteCall& call);
void answer_tokenize(RouteCall& call);
void answer_detokenize(RouteCall& call);
void answer_apply_template(RouteCall& call);
void answer_images_plan(RouteCall& call);
void answer_lora_adapters(RouteCall& call);
void answer_set_lora_adapters(RouteCall& call);
void answer_props(RouteCall& call);
void answer_slots(RouteCall& call);

}  // namespace vl2::server
