// POST /detokenize: {tokens} -> {content}.
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/route.h"
#include "core/base/json.h"

namespace vl2::server {

void answer_detokenize(RouteCall& call) {
  const Tokenizer& tokenizer = call.server.engine().tokenizer();
  const nlohmann::json body = read_json(call);
  const Fields fields(body);
  const nlohmann::json* tokens = fields.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) fields.reject("tokens", "a list of token ids");
  std::vector<int32_t> ids;
  for (const nlohmann::json& id : *tokens) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX || !tokenizer.has(id.get<int32_t>()))
      throw ApiError(400, fmt::format("tokens: {} is no token id of this model", describe_json(id)), "", "tokens");
    ids.push_back(id.get<int32_t>());
  }
  reply_json(call, {{"content", tokenizer.decode(ids)}});
}

}  // namespace vl2::server
