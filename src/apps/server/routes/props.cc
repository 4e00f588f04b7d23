// GET /props and /slots: what the server is, and what it is doing. Texts of requests are never shown.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "apps/server/api_error.h"
#include "apps/server/api_lora.h"
#include "apps/server/route.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

// "1", "true" or nothing behind the name; several are joined with &.
bool asked(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view one = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (one == name) return true;
    if (one.starts_with(name) && one[name.size()] == '=')
      return one.substr(name.size() + 1) != "0" && one.back() != '=';
  }
  return false;
}

ordered_json slot_json(int64_t id, int64_t context) {
  return {{"id", id},         {"is_processing", false}, {"n_ctx", context}, {"n_prompt_tokens", 0},
          {"n_prefilled", 0}, {"n_decoded", 0},         {"n_remain", 0}};
}

}  // namespace

void answer_props(RouteCall& call) {
  const ServerContext& server = call.server;
  const Engine& engine = server.engine();
  const Processor& processor = engine.processor();
  reply_json(call, {{"model", server.model_id()},
                    {"default_generation_settings",
                     {{"n_ctx", engine.max_context()},
                      {"params", {{"temperature", 0}, {"max_tokens", server.options().default_max_tokens}}}}},
                    {"total_slots", server.options().parallel},
                    {"max_queue", server.options().max_queue},
                    {"chat_template", "deepseek"},
                    {"bos_token", processor.config().bos_token},
                    {"eos_token", processor.config().eos_token},
                    {"image_token", processor.config().image_token},
                    {"modalities", {{"vision", true}, {"audio", false}}},
                    {"tile_size", processor.config().tile_size()},
                    {"embedding_size", engine.config().language.hidden_size},
                    {"lora_adapters", lora_json(engine)},
                    {"backend", engine.backend()},
                    {"build_info", "vl2 " VL2_VERSION}});
}

void answer_slots(RouteCall& call) {
  const Engine& engine = call.server.engine();
  const EngineStats stats = engine.stats();
  const int64_t total = call.server.options().parallel;
  if (asked(call.http.head().query, "fail_on_no_slot") && static_cast<int64_t>(stats.sequences.size()) >= total)
    throw ApiError(503, fmt::format("all {} slots are taken", total), "no_slot_available");
  ordered_json slots = ordered_json::array();
  for (int64_t id = 0; id < total; ++id) slots.push_back(slot_json(id, engine.max_context()));
  for (const SequenceStats& one : stats.sequences) {
    if (one.slot >= total) continue;
    ordered_json& slot = slots[static_cast<size_t>(one.slot)];
    slot["is_processing"] = true;
    slot["n_prompt_tokens"] = one.prompt_tokens;
    slot["n_prefilled"] = one.prefilled_tokens;
    slot["n_decoded"] = one.generated_tokens;
    slot["n_remain"] = one.remaining_tokens;
  }
  reply_json(call, slots);
}

}  // namespace vl2::server
