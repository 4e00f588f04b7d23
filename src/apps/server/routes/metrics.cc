// GET /metrics: for Prometheus.
#include "apps/server/metrics.h"

#include "apps/server/route.h"

namespace vl2::server {

void answer_metrics(RouteCall& call) {
  EngineStats stats;
  const bool loaded = call.server.loaded();
  if (loaded) stats = call.server.engine().stats();
  call.http.reply(200, "text/plain; version=0.0.4; charset=utf-8",
                  call.server.metrics().text(loaded ? &stats : nullptr) +
                      transport_text(call.server.transport(), call.server.limiter().refused()) +
                      tiles_text(call.server.tiles().counts()));
}

}  // namespace vl2::server
