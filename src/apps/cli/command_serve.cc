// vl2 serve: the HTTP API over one model, until a signal ends it.
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/cli/commands.h"
#include "apps/cli/model_files.h"
#include "apps/cli/model_folder.h"
#include "apps/cli/options.h"
#include "apps/cli/serve_options.h"
#include "apps/cli/serve_plan.h"
#include "apps/cli/serve_process.h"
#include "apps/cli/service_notify.h"
#include "apps/cli/settings.h"
#include "apps/cli/terminal.h"
#include "apps/server/access.h"
#include "apps/server/api_error.h"
#include "apps/server/api_server.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kLookForSignal{100};

// What the model is called: as it was asked for, or its folder's name.
std::string default_id(const std::string& asked, const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!asked.empty() && !std::filesystem::is_directory(asked, ignored)) return asked;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(folder, ignored);
  return whole.filename().empty() ? "model" : whole.filename().string();
}

std::vector<std::string> all_keys(const ServeOptions& options) {
  std::vector<std::string> keys = options.keys;
  if (options.key_file.empty()) return keys;
  const std::vector<std::string> more = server::read_key_file(options.key_file);
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

void check_hosts(const char* option, const std::vector<std::string>& hosts) {
  for (const std::string& host : hosts)
    if (host.empty() || host.find_first_of(":/* ") != std::string::npos)
      throw UsageError(
          fmt::format("{}: \"{}\" is no host; write example.org, or .example.org for all below it", option, host));
}

void complete(ServeOptions& options, const std::filesystem::path& folder) {
  server::ServerOptions& s = options.server;
  s.model_ids = options.model_ids.empty() ? std::vector{default_id(options.model, folder)} : options.model_ids;
  if (std::any_of(options.keys.begin(), options.keys.end(), [](const std::string& key) { return key.empty(); }))
    throw UsageError("--api-key is empty");
  s.keys = all_keys(options);
  s.media_path = options.media_path;
  std::error_code ignored;
  if (!s.media_path.empty() && !std::filesystem::is_directory(s.media_path, ignored))
    throw UsageError(fmt::format("--media-path {} is no folder", options.media_path));
  if (!s.remote.domains.empty() && !s.remote.allowed)
    throw UsageError("--remote-media-domains needs --allow-remote-media");
  check_hosts("--remote-media-domains", s.remote.domains);
  if (s.allowed_hosts != std::vector<std::string>{"*"}) check_hosts("--allowed-hosts", s.allowed_hosts);
  s.http.body_bytes = static_cast<size_t>(options.body_mib) << 20;
  s.http.bodies_bytes = std::max(s.http.bodies_bytes, s.http.body_bytes);
  s.http.connections = static_cast<size_t>(options.connections);
  if (s.log_prompts && options.quiet && options.log_file.empty())
    throw UsageError("--log-prompts and --quiet together need a --log-file");
}

EngineOptions engine_options(const ServeOptions& options, const ServePlan& plan) {
  EngineOptions result;
  result.backend = plan.backend;
  result.compute = options.compute.backend_options(DType::kBF16, false);  // the engine looks at what is stored
  result.compute.gpu_layers = plan.gpu_layers;
  result.max_context = options.max_context;
  result.max_cached_tokens = plan.cached_tokens;
  result.max_sequences = options.server.parallel;
  result.lora = options.lora;
  return result;
}

// SIGHUP: keys and log file anew. What cannot be read leaves everything as it was.
void reload(const ServeOptions& options, server::ApiServer& server, ServeLog& log) {
  try {
    log.reopen();
    if (!options.key_file.empty()) server.context().keys().replace(all_keys(options));
    log.event("reload", {{"keys", server.context().keys().size()}});
    write_stderr("vl2 serve: keys and log file read anew\n");
  } catch (const Error& error) {
    log.event("reload_failed", {{"error", error.what()}});
    write_stderr(printable(fmt::format("vl2 serve: reload failed: {}\n", error.what())));
  }
}

class ServeRun {
 public:
  ServeRun(const ServeOptions& options, std::filesystem::path folder, const ServePlan& plan)
      : options_(options),
        folder_(std::move(folder)),
        plan_(plan),
        log_(options.log_file, options.quiet),
        signals_(!options.key_file.empty() || !options.log_file.empty() || !stderr_is_terminal()) {}

  int run() {
    server::ServerOptions with_log = options_.server;
    with_log.log = log_.sink();
    server::ApiServer server(with_log);
    server.start();
    const server::ServerOptions& s = options_.server;
    const std::string host = s.host.find(':') == std::string::npos ? s.host : "[" + s.host + "]";
    write_stderr(fmt::format("vl2 serve: http://{}:{}/v1, loading {}\n", host, server.port(), folder_.string()));
    log_.event("start", {{"version", VL2_VERSION},
                         {"pid", ::getpid()},
                         {"host", s.host},
                         {"port", server.port()},
                         {"model", folder_.string()},
                         {"model_ids", s.model_ids},
                         {"keys", s.keys.size()}});
    const auto begin = std::chrono::steady_clock::now();
    load(server);
    const std::string names = fmt::format("{}", fmt::join(s.model_ids, ", "));
    write_stderr(fmt::format("vl2 serve: ready, serving {}\n", names));
    log_.event("ready", {{"load_ms", milliseconds_since(begin)}});
    notify_service_manager(fmt::format("READY=1\nSTATUS=serving {} on port {}", names, server.port()));
    while (true) {
      const ServeSignal signal = signals_.wait(milliseconds(10'000));
      if (signal == ServeSignal::kEnd) break;
      if (signal == ServeSignal::kReload) reload(options_, server, log_);
    }
    return stopped(server, drain(server));
  }

 private:
  static int64_t milliseconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin).count();
  }

  // Waits for the model. A signal ends the program: there is nothing to finish.
  void load(server::ApiServer& server) {
    std::future<std::shared_ptr<Engine>> loading = std::async(std::launch::async, [this]() -> std::shared_ptr<Engine> {
      return Engine::open(folder_, engine_options(options_, plan_));
    });
    while (loading.wait_for(milliseconds(0)) != std::future_status::ready) {
      const ServeSignal signal = signals_.wait(kLookForSignal);
      if (signal == ServeSignal::kReload) reload(options_, server, log_);
      if (signal != ServeSignal::kEnd) continue;
      log_.event("stop", {{"finished", true}});
      std::_Exit(kExitOk);  // loading cannot be interrupted
    }
    try {
      server.set_engine(loading.get());
    } catch (const Error& error) {
      log_.event("failed", {{"error", error.what()}});
      throw;
    }
  }

  // True: everything was finished.
  bool drain(server::ApiServer& server) {
    const seconds patience(options_.drain_seconds);
    const size_t connections = server.http().connections();
    notify_service_manager("STOPPING=1\nSTATUS=finishing what runs");
    write_stderr(fmt::format("vl2 serve: finishing what runs, for at most {} s; a second signal ends it at once\n",
                             patience.count()));
    log_.event("drain", {{"connections", connections}, {"seconds", patience.count()}});
    const auto deadline = std::chrono::steady_clock::now() + patience;
    bool finished = false;
    while (!(finished = server.drain(kLookForSignal)) && std::chrono::steady_clock::now() < deadline)
      if (signals_.wait(milliseconds(0)) == ServeSignal::kEnd) break;
    return finished;
  }

  int stopped(server::ApiServer& server, bool finished) {
    server.stop();
    log_.event("stop", {{"finished", finished}});
    return kExitOk;
  }

  const ServeOptions& options_;
  const std::filesystem::path folder_;
  const ServePlan& plan_;
  ServeLog log_;
  const SignalWait signals_;
};

std::string print(const nlohmann::ordered_json& value) { return server::dump_json(value) + "\n"; }

// Requests come on many threads, with bodies and pictures of megabytes. As many heaps as threads would each keep what
// one request needed; few keep what they have, up to a limit, because fresh pages are slow to come by in a virtual
// machine: with pages of their own for each block from 256 KiB on, a second question on a picture took thrice as long.
void keep_heaps_small() {
  constexpr int kHeaps = 4, kOwnPagesFrom = 8 << 20, kKept = 16 << 20;
  ::mallopt(M_ARENA_MAX, kHeaps);
  ::mallopt(M_MMAP_THRESHOLD, kOwnPagesFrom);
  ::mallopt(M_TRIM_THRESHOLD, kKept);
}

int run(ServeOptions& options, CLI::App& app) {
  keep_heaps_small();
  const std::vector<Setting> settings =
      apply_settings(app, {"VL2_SERVE_", "config", {"dry-run", "print-config", "json"}, {{"api-key", "VL2_API_KEY"}}});
  if (options.json && !options.dry_run && !options.print_config)
    throw UsageError("--json is for --dry-run and --print-config");
  if (options.print_config) {
    write_stdout(options.json ? print(settings_json(settings, "api-key")) : settings_text(settings, "api-key"));
    return kExitOk;
  }
  const std::filesystem::path folder = find_model(options.model);
  complete(options, folder);
  ServePlan planned;
  {
    const ModelFiles model(folder);
    planned = plan_serve(options, model);
  }
  if (options.dry_run) {
    write_stdout(options.json ? print(plan_json(options, folder, planned)) : plan_text(options, folder, planned));
    return kExitOk;
  }
  allow_descriptors(options.server.http.connections);
  return ServeRun(options, folder, planned).run();
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
  text("--api-key", options->keys,
       "A key that may ask, or NAME:KEY; may be given several times (default: none is needed)", "KEY")
      ->allow_extra_args(false);
  text("--api-key-file", options->key_file, "Keys, one a line; read anew on SIGHUP", "FILE");
  text("--cors-origins", s.cors_origins, "Web pages that may ask: origins with commas between, localhost, or *", "LIST")
      ->delimiter(',')
      ->allow_extra_args(false);
  text(
      "--allowed-hosts", s.allowed_hosts,
      "Names this server may be asked by without a key: hosts with commas between, .example.org for all below it, or *",
      "LIST")
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
  number("--rate-requests", s.rate.requests, "Requests a minute of each key, or address without keys (default: 0, any)",
         int64_t{0}, kMany);
  number("--rate-tokens", s.rate.tokens, "Tokens a minute of each, prompts and answers together (default: 0, any)",
         int64_t{0}, kMany);
  app.add_flag("--behind-proxy", s.behind_proxy, "Addresses are what one proxy in front adds to X-Forwarded-For");
  number("--max-connections", options->connections, "Connections at a time (default: 256)", int64_t{1},
         int64_t{100'000});
  number("--drain-timeout", options->drain_seconds, "Seconds to finish what runs at the end (default: 30)", int64_t{0},
         int64_t{86'400});
  app.add_flag("--quiet", options->quiet, "No log line for each request on stderr");
  text("--log-file", options->log_file, "Append the log to this file; opened anew on SIGHUP (default: stderr)", "FILE");
  app.add_flag("--log-prompts", s.log_prompts, "Write what is asked and answered into the log too");
  text("--config", options->config, "Options as a JSON object, keys without dashes; flags and variables win", "FILE");
  app.add_flag("--print-config", options->print_config, "Print every option's value and where it comes from");
  app.add_flag("--dry-run", options->dry_run, "Print memory and limits, and start nothing");
  app.add_flag("--json", options->json, "Print JSON, with --dry-run or --print-config");
  add_compute_options(app, options->compute);
  note_defaults(app);
  for (const char* name : {"--max-context", "--cache-tokens", "--threads"}) app.get_option(name)->default_str("auto");
  app.footer(
      "Every option may also be a variable, VL2_SERVE_PORT for --port, or stand in the file of --config. "
      "Speaks OpenAI's API at /v1, and Anthropic's and Ollama's (docs/server.md). SIGTERM or Ctrl-C finishes what runs "
      "and ends with exit code 0; SIGHUP reads keys and log file anew.\n\n"
      "Example:\n  vl2 serve --port 8080\n"
      "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
      "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'");
  return [options, &app] { return run(*options, app); };
}

}  // namespace vl2::cli
