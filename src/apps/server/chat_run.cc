#include "apps/server/chat_run.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/prompt.h"

namespace vl2::server {

ChatRun::ChatRun(RouteCall& call, AnswerParams params, ChatMessages chat)
    : call_(call), params_(std::move(params)), num_pictures_(static_cast<int64_t>(chat.pictures.size())) {
  ServerContext& server = call.server;
  if (params_.lora) check_lora(server.engine(), *params_.lora, "lora");
  if (params_.form) params_.constraint = compile_form(server.engine(), *params_.form);
  // Before pictures are decoded: what cannot be answered shall cost little.
  auto ticket = server.admit(params_.n);
  std::vector<Request> requests;
  {
    const LoadedPictures pictures = load_pictures(server, std::move(chat.pictures));
    if (!pictures.sizes.empty()) picture_ = pictures.sizes.back();
    MultimodalPrompt prompt = build_chat(server, chat.messages, pictures, params_.allow_special);
    prompt_tokens_ = static_cast<int64_t>(prompt.input_ids.size());
    requests = make_requests(server, std::move(prompt), params_, params_.seed.value_or(server.random()));
  }
  tokens_.resize(requests.size());
  generation_.emplace(call, std::move(ticket), std::move(requests), params_.n,
                      params_.return_progress && params_.stream);
}

bool ChatRun::run(const Generation::Reader& reader) {
  if (!picture_) return generation_->run(reader);
  Generation::Reader noting = reader;
  noting.token = [&](size_t i, const TokenEvent& event) {
    tokens_[i].push(event);
    if (reader.token) reader.token(i, event);
  };
  return generation_->run(noting);
}

nlohmann::ordered_json ChatRun::grounding(size_t choice, std::string_view text) const {
  if (!picture_) return nlohmann::ordered_json::array();
  return grounding_json(text, call_.server.engine().tokenizer(), tokens_[choice], *picture_, num_pictures_ - 1);
}

int64_t count_prompt_tokens(RouteCall& call, ChatMessages chat, bool allow_special) {
  const LoadedPictures pictures = load_pictures(call.server, std::move(chat.pictures));
  const MultimodalPrompt prompt = plan_chat(call.server, chat.messages, pictures, allow_special);
  return static_cast<int64_t>(prompt.input_ids.size());
}

}  // namespace vl2::server
