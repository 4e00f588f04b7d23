#include "apps/cli/serve_plan.h"

#include <nlohmann/json.hpp>

#include "engine/backends.h"

namespace vl2::cli {
namespace {

using nlohmann::ordered_json;

// Of what is free, for weights, cache and activations; requests and their pictures take some too.
constexpr double kShareOfMemory = 0.8;

std::string per_minute(const server::RateLimits& rate) {
  if (!rate.any()) return "none";
  std::string text;
  if (rate.requests > 0) text = fmt::format("{} requests", rate.requests);
  if (rate.tokens > 0) text += fmt::format("{}{} tokens", text.empty() ? "" : " and ", rate.tokens);
  return text + " a minute";
}

std::string log_of(const ServeOptions& options) {
  std::string text = !options.log_file.empty() ? options.log_file : options.quiet ? "none" : "stderr";
  return options.server.log_prompts ? text + ", with prompts and answers" : text;
}

ordered_json or_null(int64_t number) { return number > 0 ? ordered_json(number) : ordered_json(nullptr); }

}  // namespace

ServePlan plan_serve(const ServeOptions& options, const ModelFiles& model) {
  MemoryPlanInput input;
  const bool quantized = model.config.quantization.has_value();
  const BackendOptions compute = options.compute.backend_options(model.matrix_type, quantized);
  input.format = model.config.quantization;
  input.max_context = options.max_context > 0 ? options.max_context : model.config.language.max_position_embeddings;
  input.max_sequences = options.server.parallel;
  // One whole context at least decides where the model goes.
  input.cached_tokens = options.cache_tokens > 0 ? options.cache_tokens : input.max_context;
  const Placement placement = place_model(model.config, input, options.compute.backend, compute);
  input = placement.input;
  ServePlan result;
  const int64_t available = placement.memory.available;
  for (int64_t contexts = options.server.parallel; contexts >= 1; --contexts) {
    input.cached_tokens = options.cache_tokens > 0 ? options.cache_tokens : contexts * input.max_context;
    result.memory = plan_memory(model.config, input);
    result.cached_tokens = input.cached_tokens;
    if (options.cache_tokens > 0 ||
        static_cast<double>(result.memory.total()) <= kShareOfMemory * static_cast<double>(available))
      break;
  }
  result.context = std::min(input.max_context, result.cached_tokens);
  result.place = placement.place;
  result.backend = placement.backend;
  result.gpu_layers = placement.compute.gpu_layers;
  result.memory.available = available;
  result.memory.pictures = default_picture_cache(result.memory, available);
  return result;
}

std::string plan_text(const ServeOptions& options, const std::filesystem::path& folder, const ServePlan& plan) {
  const server::ServerOptions& s = options.server;
  const auto bytes = [](size_t count) { return format_bytes(static_cast<int64_t>(count)); };
  std::string text = fmt::format("model        {} as {}\n", folder.string(), fmt::join(s.model_ids, ", "));
  text += fmt::format("address      {} port {}\n", s.host, s.port);
  text +=
      fmt::format("memory       {}: weights {}, cache {}, activations {}, encoded pictures {}\n",
                  format_bytes(plan.memory.total()), format_bytes(plan.memory.weights), format_bytes(plan.memory.cache),
                  format_bytes(plan.memory.activations), format_bytes(plan.memory.pictures));
  if (plan.memory.host_experts > 0)
    text += fmt::format("on the CPU   the experts of layers {} and later: {} of memory\n", plan.gpu_layers,
                        format_bytes(plan.memory.host_experts));
  if (plan.memory.available != INT64_MAX)
    text += fmt::format("available    {} of {}\n", format_bytes(plan.memory.available), plan.place);
  text += fmt::format("context      {} tokens; the cache holds {} of all answers together\n", plan.context,
                      plan.cached_tokens);
  text += fmt::format("answers      {} at a time, {} more wait, then 429; of at most {} tokens unless a request says\n",
                      s.parallel, s.max_queue, s.default_max_tokens);
  text += fmt::format("requests     {} connections, bodies of {}, {} together; pictures of {} megapixels together\n",
                      s.http.connections, bytes(s.http.body_bytes), bytes(s.http.bodies_bytes),
                      s.max_picture_pixels / 1'000'000);
  text += fmt::format("keys         {}\n", s.keys.empty() ? "none: everybody who reaches the address may ask"
                                                          : fmt::format("{}", s.keys.size()));
  text += fmt::format("limits       {}{}\n", per_minute(s.rate),
                      !s.rate.any()    ? ""
                      : s.keys.empty() ? ", for each address"
                                       : ", for each key");
  text += fmt::format("pages of     {}\n", s.cors_origins.empty() ? "this server alone"
                                                                  : fmt::format("{}", fmt::join(s.cors_origins, ", ")));
  if (s.keys.empty())
    text += fmt::format("names        addresses, local names{}{}\n", s.allowed_hosts.empty() ? "" : ", ",
                        fmt::join(s.allowed_hosts, ", "));
  text += fmt::format("file://      {}\n", s.media_path.empty() ? "not read" : "below " + s.media_path.string());
  text += fmt::format("http(s)://   {}\n", !s.remote.allowed ? "not fetched"
                                           : s.remote.domains.empty()
                                               ? "fetched from public addresses"
                                               : fmt::format("fetched from {}", fmt::join(s.remote.domains, ", ")));
  text += fmt::format("log          {}\n", log_of(options));
  return text;
}

ordered_json plan_json(const ServeOptions& options, const std::filesystem::path& folder, const ServePlan& plan) {
  const server::ServerOptions& s = options.server;
  ordered_json result;
  result["model"] = folder.string();
  result["model_ids"] = s.model_ids;
  result["host"] = s.host;
  result["port"] = s.port;
  result["memory"] = {{"total_bytes", plan.memory.total()},
                      {"weights_bytes", plan.memory.weights},
                      {"host_experts_bytes", plan.memory.host_experts},
                      {"cache_bytes", plan.memory.cache},
                      {"activations_bytes", plan.memory.activations},
                      {"picture_cache_bytes", plan.memory.pictures},
                      {"available_bytes", plan.memory.available == INT64_MAX ? ordered_json(nullptr)
                                                                             : ordered_json(plan.memory.available)},
                      {"place", plan.place}};
  result["context_tokens"] = plan.context;
  result["cache_tokens"] = plan.cached_tokens;
  result["parallel"] = s.parallel;
  result["max_queue"] = s.max_queue;
  result["max_tokens"] = s.default_max_tokens;
  result["connections"] = s.http.connections;
  result["body_bytes"] = s.http.body_bytes;
  result["bodies_bytes"] = s.http.bodies_bytes;
  result["picture_pixels"] = s.max_picture_pixels;
  result["pictures"] = s.max_pictures;
  result["keys"] = s.keys.size();
  result["rate_requests"] = or_null(s.rate.requests);
  result["rate_tokens"] = or_null(s.rate.tokens);
  result["cors_origins"] = s.cors_origins;
  result["allowed_hosts"] = s.allowed_hosts;
  result["media_path"] = s.media_path.empty() ? ordered_json(nullptr) : ordered_json(s.media_path.string());
  result["remote_media"] = s.remote.allowed;
  result["remote_media_domains"] = s.remote.domains;
  result["drain_seconds"] = options.drain_seconds;
  result["log"] = !options.log_file.empty() ? ordered_json(options.log_file)
                  : options.quiet           ? ordered_json(nullptr)
                                            : ordered_json("stderr");
  result["log_prompts"] = s.log_prompts;
  return result;
}

}  // namespace vl2::cli
