// GET and POST /lora-adapters: the adapter that is merged. It cannot be changed while the server runs; a POST that asks
// for what is there succeeds.
#include <nlohmann/json.hpp>

#include "apps/server/api_lora.h"
#include "apps/server/route.h"

namespace vl2::server {

void answer_lora_adapters(RouteCall& call) { reply_json(call, lora_json(call.server.engine())); }

void answer_set_lora_adapters(RouteCall& call) {
  const Engine& engine = call.server.engine();
  check_lora(engine, parse_lora(read_json_value(call), "adapters"), "adapters");
  reply_json(call, lora_json(engine));
}

}  // namespace vl2::server
