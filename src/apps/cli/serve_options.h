// What `vl2 serve` was told. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/cli/options.h"
#include "apps/server/server_options.h"

namespace vl2::cli {

struct ServeOptions {
  std::string model, lora, key_file, media_path, log_file, config;
  std::vector<std::string> model_ids, keys;
  ComputeOptions compute;
  server::ServerOptions server;
  int64_t max_context = 0, cache_tokens = 0, body_mib = 64, connections = 256, drain_seconds = 30;
  bool dry_run = false, print_config = false, json = false, quiet = false;
};

}  // namespace vl2::cli
