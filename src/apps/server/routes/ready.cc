// GET /ready: whether a request would be let in now. For load balancers.
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/route.h"

namespace vl2::server {

void answer_ready(RouteCall& call) {
  call.server.engine();
  if (call.server.draining()) throw ApiError(503, "the server is shutting down", "shutting_down");
  if (call.server.full()) throw ApiError(503, "the queue is full", "queue_full");
  reply_json(call, {{"status", "ready"}});
}

}  // namespace vl2::server
