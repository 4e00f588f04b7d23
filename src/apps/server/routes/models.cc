// GET /v1/models and /v1/models/{id}: one object that OpenAI's and Anthropic's clients both read.
#include <nlohmann/json.hpp>

#include "apps/server/api_reply.h"
#include "apps/server/route.h"
#include "core/model_spec/weight_schema.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

ordered_json model_json(const ServerContext& server, const std::string& id) {
  ordered_json out = {{"id", id},
                      {"object", "model"},
                      {"created", server.created()},
                      {"owned_by", "vl2"},
                      {"type", "model"},
                      {"display_name", id},
                      {"created_at", rfc3339(server.created())},
                      {"architecture",
                       {{"input_modalities", ordered_json::array({"text", "image"})},
                        {"output_modalities", ordered_json::array({"text"})}}}};
  if (!server.loaded()) return out;
  const Engine& engine = server.engine();
  const ParameterCounts size = count_parameters(engine.config());
  out["meta"] = {{"n_ctx", engine.max_context()},
                 {"n_ctx_train", engine.config().language.max_position_embeddings},
                 {"n_vocab", engine.config().language.vocab_size},
                 {"n_params", size.used()},
                 {"n_params_active", size.activated},
                 {"size", engine.memory().weights + engine.memory().host_experts}};
  return out;
}

}  // namespace

void answer_models(RouteCall& call) {
  const std::vector<std::string>& ids = call.server.options().model_ids;
  ordered_json data = ordered_json::array();
  for (const std::string& id : ids) data.push_back(model_json(call.server, id));
  reply_json(call, {{"object", "list"},
                    {"data", std::move(data)},
                    {"has_more", false},
                    {"first_id", ids.front()},
                    {"last_id", ids.back()}});
}

void answer_model(RouteCall& call) {
  call.server.check_model(call.tail);
  reply_json(call, model_json(call.server, call.tail));
}

}  // namespace vl2::server
