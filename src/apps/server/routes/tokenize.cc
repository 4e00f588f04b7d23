// POST /tokenize: {content, add_special, parse_special, with_pieces} -> {tokens}.
#include <nlohmann/json.hpp>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/route.h"
#include "core/text/utf8.h"

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

// Its text, or its bytes where they are no text by themselves.
ordered_json piece_of(const Tokenizer& tokenizer, int32_t id) {
  const std::string_view bytes = tokenizer.token_text(id);
  if (is_valid_utf8(bytes)) return std::string(bytes);
  ordered_json out = ordered_json::array();
  for (const char c : bytes) out.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  return out;
}

}  // namespace

void answer_tokenize(RouteCall& call) {
  const Processor& processor = call.server.engine().processor();
  const nlohmann::json body = read_json(call);
  const Fields fields(body);
  const auto content = fields.string("content");
  if (!content) fields.reject("content", "a string");
  const bool pieces = fields.boolean("with_pieces").value_or(false);
  const Tokenizer& tokenizer = processor.tokenizer();
  std::vector<int32_t> ids;
  if (fields.boolean("add_special").value_or(false)) ids.push_back(processor.special().bos);
  const std::vector<int32_t> text = fields.boolean("parse_special").value_or(true)
                                        ? tokenizer.encode(*content)
                                        : tokenizer.encode(*content, std::span<const int32_t>{});
  ids.insert(ids.end(), text.begin(), text.end());
  ordered_json tokens = ordered_json::array();
  for (const int32_t id : ids) {
    if (pieces)
      tokens.push_back({{"id", id}, {"piece", piece_of(tokenizer, id)}});
    else
      tokens.push_back(id);
  }
  reply_json(call, {{"tokens", std::move(tokens)}});
}

}  // namespace vl2::server
