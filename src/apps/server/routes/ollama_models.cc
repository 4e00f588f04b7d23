// GET /api/tags, /api/ps and /api/version, POST /api/show and /api/pull: what Ollama's clients ask before they chat.
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/api_reply.h"
#include "apps/server/route.h"
#include "core/model_spec/weight_schema.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

// Their digests name files; ours are no files of a registry.
constexpr const char* kNoDigest = "0000000000000000000000000000000000000000000000000000000000000000";

std::string parameter_size(int64_t count) {
  return count >= 1'000'000'000 ? fmt::format("{:.1f}B", static_cast<double>(count) / 1e9)
                                : fmt::format("{:.1f}M", static_cast<double>(count) / 1e6);
}

ordered_json details(const Engine& engine) {
  return {{"parent_model", ""},
          {"format", "safetensors"},
          {"family", "deepseek_vl_v2"},
          {"families", ordered_json::array({"deepseek_vl_v2"})},
          {"parameter_size", parameter_size(count_parameters(engine.config()).used())},
          {"quantization_level", engine.config().quantization ? "quantized" : "none"}};
}

ordered_json model_json(const ServerContext& server, const std::string& id) {
  const Engine& engine = server.engine();
  return {{"name", id + ":latest"},
          {"model", id + ":latest"},
          {"modified_at", rfc3339(server.created())},
          {"size", engine.memory().weights + engine.memory().host_experts},
          {"digest", kNoDigest},
          {"details", details(engine)}};
}

}  // namespace

void answer_ollama_tags(RouteCall& call) {
  ordered_json models = ordered_json::array();
  for (const std::string& id : call.server.options().model_ids) models.push_back(model_json(call.server, id));
  reply_json(call, {{"models", std::move(models)}});
}

void answer_ollama_ps(RouteCall& call) {
  ordered_json models = ordered_json::array();
  for (const std::string& id : call.server.options().model_ids) {
    ordered_json model = model_json(call.server, id);
    model["expires_at"] = "9999-12-31T23:59:59Z";  // it stays
    model["size_vram"] = 0;
    model["context_length"] = call.server.engine().max_context();
    models.push_back(std::move(model));
  }
  reply_json(call, {{"models", std::move(models)}});
}

void answer_ollama_show(RouteCall& call) {
  const Engine& engine = call.server.engine();
  const nlohmann::json body = read_json(call);
  const Fields fields(body);
  check_ollama_model(call, fields);
  reply_json(call, {{"modified_at", rfc3339(call.server.created())},
                    {"details", details(engine)},
                    {"model_info",
                     {{"general.architecture", "deepseek_vl_v2"},
                      {"general.parameter_count", count_parameters(engine.config()).used()},
                      {"deepseek_vl_v2.context_length", engine.max_context()},
                      {"deepseek_vl_v2.embedding_length", engine.config().language.hidden_size},
                      {"deepseek_vl_v2.block_count", engine.config().language.num_hidden_layers}}},
                    {"capabilities", ordered_json::array({"completion", "vision", "embedding"})}});
}

// The model that is served is there already; others are not fetched.
void answer_ollama_pull(RouteCall& call) {
  call.server.engine();
  const nlohmann::json body = read_json(call);
  const Fields fields(body);
  check_ollama_model(call, fields);
  if (!fields.boolean("stream").value_or(true)) return reply_json(call, {{"status", "success"}});
  call.http.begin_events("application/x-ndjson; charset=utf-8");
  for (const char* status : {"pulling manifest", "verifying sha256 digest", "writing manifest", "success"})
    call.http.write_events(dump_json({{"status", status}}) + "\n");
  call.http.end_events();
}

void answer_ollama_version(RouteCall& call) { reply_json(call, {{"version", VL2_VERSION}}); }

}  // namespace vl2::server
