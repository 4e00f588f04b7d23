#include "apps/server/embedding_run.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "apps/server/generation.h"

namespace vl2::server {

std::optional<Embeddings> run_embeddings(RouteCall& call, std::vector<MultimodalPrompt> prompts) {
  const auto begin = std::chrono::steady_clock::now();
  Embeddings result;
  const auto at_once = std::min(static_cast<size_t>(call.server.options().parallel), prompts.size());
  const auto ticket = call.server.admit(static_cast<int64_t>(at_once));
  for (size_t first = 0; first < prompts.size(); first += at_once) {
    const size_t count = std::min(at_once, prompts.size() - first);
    std::vector<Request> requests(count);
    for (size_t i = 0; i < count; ++i) {
      requests[i].prompt = std::move(prompts[first + i]);
      requests[i].embed = true;
    }
    result.vectors.resize(first + count);
    Generation generation(call, nullptr, std::move(requests), 1);
    Generation::Reader reader;
    reader.finish = [&](size_t i, const Answer& answer) { result.vectors[first + i] = answer.embedding; };
    if (!generation.run(reader)) return std::nullopt;
    const Usage usage = generation.usage();
    result.usage.prompt_tokens += usage.prompt_tokens;
    result.usage.vision_tokens += usage.vision_tokens;
    result.usage.tiles += usage.tiles;
  }
  call.notes.answers = static_cast<int64_t>(prompts.size());
  call.notes.prompt_tokens = result.usage.prompt_tokens;
  call.notes.image_tokens = result.usage.vision_tokens;
  result.total_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace vl2::server
