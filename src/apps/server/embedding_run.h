// Embeddings of many prompts on their way through the engine, a few at a time.
#pragma once

#include <optional>
#include <vector>

#include "apps/server/route.h"

namespace vl2::server {

struct Embeddings {
  std::vector<std::vector<float>> vectors;  // of each prompt
  Usage usage;
  double total_ms = 0;
};

// Lets them in as if they were as many answers as are made at a time, whatever their number: the others wait here.
// None: the client is gone. ApiError and Error as for answers.
std::optional<Embeddings> run_embeddings(RouteCall& call, std::vector<MultimodalPrompt> prompts);

}  // namespace vl2::server
