// POST /apply-template: {messages} -> {prompt}, the text the model would be given; each picture is one "<image>".
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/prompt.h"
#include "apps/server/route.h"

namespace vl2::server {

void answer_apply_template(RouteCall& call) {
  const Tokenizer& tokenizer = call.server.engine().tokenizer();
  const nlohmann::json body = read_json(call);
  ChatMessages chat = parse_chat_messages(body);
  const LoadedPictures pictures = load_pictures(call.server, std::move(chat.pictures));
  const bool special = Fields(body).boolean("allow_special").value_or(false);
  const MultimodalPrompt prompt = plan_chat(call.server, chat.messages, pictures, special);
  std::vector<int32_t> ids;
  size_t picture = 0;
  for (size_t i = 0; i < prompt.input_ids.size(); ++i) {
    ids.push_back(prompt.input_ids[i]);
    if (prompt.images_seq_mask[i] != 0) i += static_cast<size_t>(prompt.num_image_tokens.at(picture++)) - 1;
  }
  reply_json(call, {{"prompt", tokenizer.decode(ids)}, {"prompt_tokens", prompt.input_ids.size()}});
}

}  // namespace vl2::server
