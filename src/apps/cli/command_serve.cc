// vl2 serve: the HTTP API over one model, until a signal ends it.
#include <malloc.h>
#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <future>
#include <memory>
#include <optional>

#include "apps/cli/commands.h"
#include "apps/cli/model_files.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/terminal.h"
#include "apps/server/access.h"
#include "apps/server/api_server.h"
#include "core/base/available_memory.h"
#include "core/base/error.h"
#include "engine/runtime/memory_plan.h"

namespace vl2::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kLookForSignal{100};
// Of what is free, for weights, cache and activations; requests and their pictures take some too.
constexpr double kShareOfMemory = 0.8;

struct ServeOptions {
  std::string model, lora, key_file, media_path;
  std::vector<std::string> model_ids, keys;
  ComputeOptions compute;
  server::ServerOptions server;
  int64_t max_context = 0, cache_tokens = 0, body_mib = 64, connections = 256, drain_seconds = 30;
  bool dry_run = false, quiet = false;
};

// SIGTERM and Ctrl-C as something to wait for. Blocked in every thread that is started afterwards.
class SignalWait {
 public:
  SignalWait() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  bool wait(milliseconds time) const {
    const timespec limit = {static_cast<time_t>(time.count() / 1000), static_cast<long>(time.count() % 1000) * 1000000};
    return ::sigtimedwait(&signals_, nullptr, &limit) > 0;
  }

 private:
  sigset_t signals_ = {};
};

struct ServePlan {
  MemoryReport memory;
  int64_t context = 0, cached_tokens = 0;
};

// Without --cache-tokens: room for as many whole contexts as answers are made at a time, as far as memory goes.
ServePlan plan(const ServeOptions& options, const ModelFiles& model) {
  MemoryPlanInput input;
  const bool quantized = model.config.quantization.has_value();
  input.footprint =
      backend_footprint(options.compute.backend, options.compute.backend_options(model.matrix_type, quantized));
  input.format = model.config.quantization;
  input.max_context = options.max_context > 0 ? options.max_context : model.config.language.max_position_embeddings;
  input.max_sequences = options.server.parallel;
  const double available = static_cast<double>(available_memory().value_or(INT64_MAX));
  ServePlan result;
  result.context = input.max_context;
  for (int64_t contexts = options.server.parallel; contexts >= 1; --contexts) {
    input.cached_tokens = options.cache_tokens > 0 ? options.cache_tokens : contexts * input.max_context;
    result.memory = plan_memory(model.config, input);
    result.cached_tokens = input.cached_tokens;
    if (options.cache_tokens > 0 || static_cast<double>(result.memory.total()) <= kShareOfMemory * available) break;
  }
  return result;
}

std::string plan_text(const ServeOptions& options, const std::string& folder, const ServePlan& plan) {
  const server::ServerOptions& s = options.server;
  std::string text = fmt::format("model        {} as {}\n", folder, fmt::join(s.model_ids, ", "));
  text += fmt::format("address      {} port {}\n", s.host, s.port);
  text += fmt::format("memory       {}: weights {}, cache {}, activations {}\n", format_bytes(plan.memory.total()),
                      format_bytes(plan.memory.weights), format_bytes(plan.memory.cache),
                      format_bytes(plan.memory.activations));
  if (const auto available = available_memory()) text += fmt::format("available    {}\n", format_bytes(*available));
  text += fmt::format("context      {} tokens; the cache holds {} of all answers together\n", plan.context,
                      plan.cached_tokens);
  text += fmt::format("answers      {} at a time, {} more wait, then 429; of at most {} tokens unless a request says\n",
                      s.parallel, s.max_queue, s.default_max_tokens);
  text += fmt::format("requests     {} connections, bodies of {}, {} together; pictures of {} megapixels together\n",
                      s.http.connections, format_bytes(static_cast<int64_t>(s.http.body_bytes)),
                      format_bytes(static_cast<int64_t>(s.http.bodies_bytes)), s.max_picture_pixels / 1'000'000);
  text += fmt::format("keys         {}\n", s.keys.empty() ? "none: everybody who reaches the address may ask"
                                                          : fmt::format("{}", s.keys.size()));
  text += fmt::format("pages of     {}\n", s.cors_origins.empty() ? "this server alone"
                                                                  : fmt::format("{}", fmt::join(s.cors_origins, ", ")));
  text += fmt::format("file://      {}\n", s.media_path.empty() ? "not read" : "below " + s.media_path.string());
  text += fmt::format("http(s)://   {}\n", !s.remote.allowed ? "not fetched"
                                           : s.remote.domains.empty()
                                               ? "fetched from public addresses"
                                               : fmt::format("fetched from {}", fmt::join(s.remote.domains, ", ")));
  return text;
}

// What the model is called: as it was asked for, or its folder's name.
std::string default_id(const std::string& asked, const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!asked.empty() && !std::filesystem::is_directory(asked, ignored)) return asked;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(folder, ignored);
  return whole.filename().empty() ? "model" : whole.filename().string();
}

void complete(ServeOptions& options, const std::filesystem::path& folder) {
  server::ServerOptions& s = options.server;
  s.model_ids = options.model_ids.empty() ? std::vector{default_id(options.model, folder)} : options.model_ids;
  s.keys = options.keys;
  if (!options.key_file.empty()) {
    const std::vector<std::string> more = server::read_key_file(options.key_file);
    s.keys.insert(s.keys.end(), more.begin(), more.end());
  }
  if (std::any_of(s.keys.begin(), s.keys.end(), [](const std::string& key) { return key.empty(); }))
    throw UsageError("--api-key is empty");
  s.media_path = options.media_path;
  std::error_code ignored;
  if (!s.media_path.empty() && !std::filesystem::is_directory(s.media_path, ignored))
    throw UsageError(fmt::format("--media-path {} is no folder", options.media_path));
  if (!s.remote.domains.empty() && !s.remote.allowed)
    throw UsageError("--remote-media-domains needs --allow-remote-media");
  for (const std::string& domain : s.remote.domains)
    if (domain.empty() || domain.find_first_of(":/* ") != std::string::npos)
      throw UsageError(fmt::format(
          "--remote-media-domains: \"{}\" is no host; write example.org, or .example.org for all below it", domain));
  s.http.body_bytes = static_cast<size_t>(options.body_mib) << 20;
  s.http.bodies_bytes = std::max(s.http.bodies_bytes, s.http.body_bytes);
  s.http.connections = static_cast<size_t>(options.connections);
  if (!options.quiet) s.log = [](std::string_view line) { write_stderr(std::string(line) + "\n"); };
}

EngineOptions engine_options(const ServeOptions& options, const ServePlan& plan) {
  EngineOptions result;
  result.backend = options.compute.backend;
  result.compute = options.compute.backend_options(DType::kBF16, false);  // the engine looks at what is stored
  result.max_context = options.max_context;
  result.max_cached_tokens = plan.cached_tokens;
  result.max_sequences = options.server.parallel;
  result.lora = options.lora;
  return result;
}

// Waits for the model, or for a signal: then there is nothing to finish.
std::shared_ptr<Engine> load(const std::filesystem::path& folder, const EngineOptions& options,
                             const SignalWait& signals) {
  std::future<std::shared_ptr<Engine>> loading =
      std::async(std::launch::async, [&]() -> std::shared_ptr<Engine> { return Engine::open(folder, options); });
  while (loading.wait_for(milliseconds(0)) != std::future_status::ready)
    if (signals.wait(kLookForSignal)) std::_Exit(kExitOk);
  return loading.get();
}

void drain(server::ApiServer& server, const SignalWait& signals, seconds patience) {
  write_stderr(fmt::format("vl2 serve: finishing what runs, for at most {} s; a second signal ends it at once\n",
                           patience.count()));
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!server.drain(kLookForSignal) && std::chrono::steady_clock::now() < deadline)
    if (signals.wait(milliseconds(0))) break;
  server.stop();
}

// Requests come on many threads, with bodies and pictures of megabytes. As many heaps as threads, and large blocks in
// them, would keep what one request needed for ever: 150 instead of 100 MiB among 200 clients.
void keep_heaps_small() {
  constexpr int kHeaps = 4, kOwnPagesFrom = 256 << 10;
  ::mallopt(M_ARENA_MAX, kHeaps);
  ::mallopt(M_MMAP_THRESHOLD, kOwnPagesFrom);
}

int run(ServeOptions& options) {
  keep_heaps_small();
  const std::filesystem::path folder = find_model(options.model);
  complete(options, folder);
  ServePlan planned;
  {
    const ModelFiles model(folder);
    planned = plan(options, model);
  }
  if (options.dry_run) {
    write_stdout(plan_text(options, folder.string(), planned));
    return kExitOk;
  }
  const SignalWait signals;
  server::ApiServer server(options.server);
  server.start();
  const std::string host =
      options.server.host.find(':') == std::string::npos ? options.server.host : "[" + options.server.host + "]";
  write_stderr(fmt::format("vl2 serve: http://{}:{}/v1, loading {}\n", host, server.port(), folder.string()));
  server.set_engine(load(folder, engine_options(options, planned), signals));
  write_stderr(fmt::format("vl2 serve: ready, serving {}\n", fmt::join(options.server.model_ids, ", ")));
  while (!signals.wait(milliseconds(10'000))) {
  }
  drain(server, signals, seconds(options.drain_seconds));
  return kExitOk;
}

}  // namespace

RunCommand declare_serve(CLI::App& app) {
  const auto options = std::make_shared<ServeOptions>();
  server::ServerOptions& s = options->server;
  const auto number = [&app](const char* name, auto& value, const std::string& help, auto low, auto high) {
    app.add_option(name, value, help)->type_name("N")->check(CLI::Range(low, high).description(""));
  };
  const auto text = [&app](const char* name, auto& value, const std::string& help, const char* type) {
    return app.add_option(name, value, help)->type_name(type);
  };
  constexpr int64_t kMany = int64_t{1} << 30;
  add_model_option(app, options->model);
  add_lora_option(app, options->lora);
  text("--host", s.host, "Address to listen on (default: 127.0.0.1, this machine alone)", "ADDRESS");
  number("--port", s.port, "Port (default: 8080; 0: one that is free)", 0, 65535);
  text("--model-id", options->model_ids, "What requests call the model; may be given several times", "NAME")
      ->allow_extra_args(false);
  text("--api-key", options->keys, "A key that may ask; may be given several times (default: none is needed)", "KEY")
      ->allow_extra_args(false)
      ->envname("VL2_API_KEY");
  text("--api-key-file", options->key_file, "Keys, one a line", "FILE");
  text("--cors-origins", s.cors_origins, "Web pages that may ask: origins with commas between, localhost, or *", "LIST")
      ->delimiter(',')
      ->allow_extra_args(false);
  text("--media-path", options->media_path, "Folder below which file:// pictures are read (default: none are)", "DIR");
  app.add_flag("--allow-remote-media", s.remote.allowed,
               "Fetch http(s):// pictures from public addresses (default: none are)");
  text("--remote-media-domains", s.remote.domains,
       "Fetch from these alone: hosts with commas between, .example.org for all below it", "LIST")
      ->delimiter(',')
      ->allow_extra_args(false);
  number("--parallel", s.parallel, "Answers made at a time (default: 8)", int64_t{1}, int64_t{1024});
  number("--max-queue", s.max_queue, "Answers that wait; with more, 429 (default: 64)", int64_t{0}, kMany);
  number("--max-context", options->max_context, "Longest prompt and answer together (default: the model's)", int64_t{2},
         kMany);
  number("--cache-tokens", options->cache_tokens,
         "Tokens of all answers the cache holds (default: a context for each, as far as memory goes)", int64_t{2},
         kMany);
  number("--max-tokens", s.default_max_tokens, "Longest answer where a request says nothing (default: 2048)",
         int64_t{1}, kMany);
  number("--max-body", options->body_mib, "Largest request, in MiB (default: 64)", int64_t{1}, int64_t{4096});
  number("--max-connections", options->connections, "Connections at a time (default: 256)", int64_t{1},
         int64_t{100'000});
  number("--drain-timeout", options->drain_seconds, "Seconds to finish what runs at the end (default: 30)", int64_t{0},
         int64_t{86'400});
  app.add_flag("--quiet", options->quiet, "No log line for each request on stderr");
  app.add_flag("--dry-run", options->dry_run, "Print memory and limits, and start nothing");
  add_compute_options(app, options->compute);
  app.footer(
      "Speaks OpenAI's API at /v1, and Anthropic's and Ollama's (docs/server.md). SIGTERM or Ctrl-C finishes what runs "
      "and ends with exit code 0.\n\n"
      "Example:\n  vl2 serve --port 8080\n"
      "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'");
  return [options] { return run(*options); };
}

}  // namespace vl2::cli
