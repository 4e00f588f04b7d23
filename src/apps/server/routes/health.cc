// GET /health: whether the model is there. Needs no key.
#include <nlohmann/json.hpp>

#include "apps/server/route.h"

namespace vl2::server {

void answer_health(RouteCall& call) {
  if (call.server.loaded()) return reply_json(call, {{"status", "ok"}});
  // Its code is a number: what clients of llama.cpp, whose form this is, look for.
  call.http.add_header("Retry-After", "1");
  reply_json(call, {{"error", {{"code", 503}, {"message", "Loading model"}, {"type", "unavailable_error"}}}}, 503);
}

}  // namespace vl2::server
