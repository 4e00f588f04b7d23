// GET /version
#include <nlohmann/json.hpp>

#include "apps/server/route.h"

namespace vl2::server {

void answer_version(RouteCall& call) {
  nlohmann::ordered_json out = {{"version", VL2_VERSION}, {"model", call.server.model_id()}};
  if (call.server.loaded()) out["backend"] = call.server.engine().backend();
  reply_json(call, out);
}

}  // namespace vl2::server
