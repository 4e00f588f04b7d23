#include "core/text/tokenizer.h"

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/byte_level.h"
#include "core/text/tokenizer_impl.h"
#include "core/text/utf8.h"

namespace vl2 {
namespace {

using Allowed = std::optional<std::span<const int32_t>>;

constexpr size_t kMaxFile = size_t{256} << 20;

// Calls on_text and on_token for the stretches of `text` in order.
template <typename OnText, typename OnToken>
void split_added(const AddedTokenTrie& trie, std::string_view text, const Allowed& allowed, const OnText& on_text,
                 const OnToken& on_token) {
  size_t start = 0;
  while (const auto match = trie.find(text, start, allowed)) {
    if (match->span.begin > start) on_text(text.substr(start, match->span.begin - start));
    on_token(match->id);
    start = match->span.end;
  }
  if (start < text.size()) on_text(text.substr(start));
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return parse(read_file(path, kMaxFile), path.string());
  const auto file = path / "tokenizer.json";
  if (!std::filesystem::exists(file, ignored))
    fail(ErrorCode::kNotFound, "{}: not there; a model folder needs its tokenizer.json", file.string());
  return parse(read_file(file, kMaxFile), file.string());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const { return encode_with(text, std::nullopt); }

std::vector<int32_t> Tokenizer::encode(std::string_view text, std::span<const int32_t> allowed) const {
  return encode_with(text, allowed);
}

std::vector<int32_t> Tokenizer::encode_with(std::string_view text, Allowed allowed) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = repair_utf8(text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  PreTokenizer::Scratch pieces;
  Bpe::Scratch symbols;
  const auto on_token = [&](int32_t id) { ids.push_back(id); };
  const auto on_plain = [&](std::string_view plain) {
    for (const std::string_view piece : impl_->pre_tokenizer.split(plain, pieces)) {
      if (impl_->ignore_merges) {
        const auto whole = token_id(byte_level_spelling(piece));
        if (whole && !is_added(*whole)) {
          ids.push_back(*whole);
          continue;
        }
      }
      impl_->bpe.encode(piece, symbols, ids);
    }
  };
  const auto on_rest = [&](std::string_view rest) {
    split_added(impl_->trie_normalized, rest, allowed, on_plain, on_token);
  };
  split_added(impl_->trie, text, allowed, on_rest, on_token);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  Utf8Repair repair;
  for (const int32_t id : ids)
    if (!skip_special || !is_special(id)) repair.append(token_text(id), text);
  repair.finish(text);
  return text;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view spelling) const {
  const int32_t id = impl_->tokens.find(spelling);
  if (id == TokenTable::kNone) return std::nullopt;
  return id;
}

std::string_view Tokenizer::token_text(int32_t id) const { return impl_->tokens.bytes(id); }
bool Tokenizer::has(int32_t id) const { return impl_->tokens.has(id); }
bool Tokenizer::is_added(int32_t id) const { return impl_->added.contains(id); }
bool Tokenizer::is_special(int32_t id) const {
  const auto it = impl_->added.find(id);
  return it != impl_->added.end() && it->second.special;
}
int32_t Tokenizer::vocab_size() const { return impl_->tokens.size(); }
int32_t Tokenizer::highest_id() const { return impl_->tokens.num_ids() - 1; }

int32_t Tokenizer::add_special_token(std::string_view text) {
  if (text.empty() || text.size() > AddedTokenTrie::kMaxContent || !is_valid_utf8(text))
    fail(ErrorCode::kInvalidArgument, "a special token of {} bytes: expected 1 to {} bytes of UTF-8", text.size(),
         AddedTokenTrie::kMaxContent);
  const auto known = token_id(text);
  if (known && is_added(*known)) {
    impl_->added[*known].special = true;
    return *known;
  }
  if (!known && highest_id() == TokenTable::kMaxId)
    fail(ErrorCode::kUnsupported, "no id is left for the token {}: {} is the highest", text, TokenTable::kMaxId);
  const int32_t id = known ? *known : highest_id() + 1;
  impl_->add(text, {.id = id, .special = true});
  return id;
}

}  // namespace vl2
