#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/route.h"
#include "core/base/json.h"

namespace vl2::server {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::array kRoutes = {
    Route{"GET", "/", true, answer_root},
    Route{"GET", "/page/*", true, answer_page},
    Route{"GET", "/health", true, answer_health},
    Route{"GET", "/ready", false, answer_ready},
    Route{"GET", "/version", false, answer_version},
    Route{"GET", "/metrics", false, answer_metrics},
    Route{"GET", "/models", false, answer_models},
    Route{"GET", "/models/*", false, answer_model},
    Route{"POST", "/chat/completions", false, answer_chat_completions},
    Route{"POST", "/completions", false, answer_completions},
    Route{"POST", "/embeddings", false, answer_embeddings},
    Route{"POST", "/responses", false, answer_responses},
    Route{"POST", "/responses/input_tokens", false, answer_response_tokens},
    Route{"POST", "/messages", false, answer_messages, ErrorStyle::kAnthropic},
    Route{"POST", "/messages/count_tokens", false, answer_message_tokens, ErrorStyle::kAnthropic},
    Route{"POST", "/api/chat", false, answer_ollama_chat, ErrorStyle::kOllama},
    Route{"POST", "/api/generate", false, answer_ollama_generate, ErrorStyle::kOllama},
    Route{"GET", "/api/tags", false, answer_ollama_tags, ErrorStyle::kOllama},
    Route{"GET", "/api/ps", false, answer_ollama_ps, ErrorStyle::kOllama},
    Route{"POST", "/api/show", false, answer_ollama_show, ErrorStyle::kOllama},
    Route{"GET", "/api/version", false, answer_ollama_version, ErrorStyle::kOllama},
    Route{"POST", "/api/embed", false, answer_ollama_embed, ErrorStyle::kOllama},
    Route{"POST", "/api/embeddings", false, answer_ollama_embeddings, ErrorStyle::kOllama},
    Route{"POST", "/api/pull", false, answer_ollama_pull, ErrorStyle::kOllama},
    Route{"POST", "/tokenize", false, answer_tokenize},
    Route{"POST", "/detokenize", false, answer_detokenize},
    Route{"POST", "/apply-template", false, answer_apply_template},
    Route{"POST", "/images/plan", false, answer_images_plan},
    Route{"GET", "/lora-adapters", false, answer_lora_adapters},
    Route{"POST", "/lora-adapters", false, answer_set_lora_adapters},
    Route{"GET", "/props", false, answer_props},
    Route{"GET", "/slots", false, answer_slots},
};

constexpr std::array<std::string_view, 5> kForms = {"response_format", "text", "format", "output_format",
                                                    "output_config"};
// Keys in the order of the text are looked up one by one, so there cannot be many.
constexpr size_t kMostFormKeys = 2000, kMostFormValues = 100'000;

void check_form(const std::string& name, const json& form) {
  std::vector<const json*> open = {&form};
  for (size_t count = 1; !open.empty(); ++count) {
    const json& value = *open.back();
    open.pop_back();
    if (count > kMostFormValues || (value.is_object() && value.size() > kMostFormKeys))
      throw ApiError(
          400,
          fmt::format("{} has more than {} values, or {} keys in one object", name, kMostFormValues, kMostFormKeys), "",
          name);
    if (value.is_structured())
      for (const json& inner : value) open.push_back(&inner);
  }
}

ordered_json read_forms(const std::string& text, const json& body) {
  bool any = false;
  for (const std::string_view name : kForms) {
    const auto at = body.find(name);
    if (at == body.end() || at->is_null()) continue;
    check_form(std::string(name), *at);
    any = true;
  }
  if (!any) return ordered_json::object();
  return ordered_json::parse(text, [](int depth, ordered_json::parse_event_t event, const ordered_json& value) {
    return event != ordered_json::parse_event_t::key || depth != 1 ||
           std::find(kForms.begin(), kForms.end(), value.get_ref<const std::string&>()) != kForms.end();
  });
}

json parse_body(const RouteCall& call, const std::string& text) {
  JsonLimits limits;
  limits.max_bytes = call.server.options().http.body_bytes;
  try {
    return parse_json(text, "the request's body", limits);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {
    throw bad_request(error);
  }
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

json read_json_value(RouteCall& call) { return parse_body(call, call.http.take_body()); }

json read_json(RouteCall& call, ordered_json* forms) {
  const std::string text = call.http.take_body();
  json value = parse_body(call, text);
  if (!value.is_object()) throw ApiError(400, "the request's body must be a JSON object");
  if (forms != nullptr) *forms = read_forms(text, value);
  return value;
}

std::string check_ollama_model(const RouteCall& call, const Fields& fields) {
  std::string name = fields.string("model").value_or(fields.string("name").value_or(""));
  if (name.empty()) fields.reject("model", "the name of a model");
  constexpr std::string_view kTag = ":latest";
  call.server.check_model(std::string_view(name).substr(0, name.size() - (name.ends_with(kTag) ? kTag.size() : 0)));
  return name;
}

void reply_json(RouteCall& call, const ordered_json& value, int status) {
  call.http.reply(status, "application/json; charset=utf-8", dump_json(value));
}

}  // namespace vl2::server
