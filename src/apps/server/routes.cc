#include <array>
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/route.h"
#include "core/base/json.h"

namespace vl2::server {
namespace {

constexpr std::array kRoutes = {
    Route{"GET", "/", true, answer_root},
    Route{"GET", "/health", true, answer_health},
    Route{"GET", "/ready", false, answer_ready},
    Route{"GET", "/version", false, answer_version},
    Route{"GET", "/metrics", false, answer_metrics},
    Route{"GET", "/models", false, answer_models},
    Route{"GET", "/models/*", false, answer_model},
    Route{"POST", "/chat/completions", false, answer_chat_completions},
    Route{"POST", "/completions", false, answer_completions},
    Route{"POST", "/tokenize", false, answer_tokenize},
    Route{"POST", "/detokenize", false, answer_detokenize},
    Route{"POST", "/apply-template", false, answer_apply_template},
    Route{"POST", "/images/plan", false, answer_images_plan},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

nlohmann::json read_json(RouteCall& call) {
  JsonLimits limits;
  limits.max_bytes = call.server.options().http.body_bytes;
  nlohmann::json value;
  try {
    value = parse_json(call.http.take_body(), "the request's body", limits);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {
    throw bad_request(error);
  }
  if (!value.is_object()) throw ApiError(400, "the request's body must be a JSON object");
  return value;
}

void reply_json(RouteCall& call, const nlohmann::ordered_json& value, int status) {
  call.http.reply(status, "application/json; charset=utf-8", dump_json(value));
}

}  // namespace vl2::server
