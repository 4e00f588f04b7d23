// tokenizer.json -> Tokenizer. Reads with simdjson: the real files have up to 8 MB.
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/tokenizer_impl.h"
#include "core/text/utf8.h"

namespace vl2 {

namespace dom = simdjson::dom;

class TokenizerJsonReader {
 public:
  explicit TokenizerJsonReader(const std::string& where) : where_(where), impl_(std::make_unique<Tokenizer::Impl>()) {}

  Tokenizer read(std::string_view json) {
    dom::parser parser;
    dom::element root;
    if (const auto error = parser.parse(json.data(), json.size()).get(root))
      corrupt("not readable as JSON: {}; download the file again", simdjson::error_message(error));
    const dom::object file = object(root, "the file");
    refuse_normalizer(file);
    refuse_decoder(file);
    read_model(object(required(file, "", "model"), "model"));
    read_added_tokens(file);
    read_pre_tokenizer(file);
    return Tokenizer(std::move(impl_));
  }

 private:
  template <typename... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::kCorrupt, "{}: {}", where_, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::kUnsupported, "{}: {}", where_, fmt::format(format, std::forward<Args>(args)...));
  }

  // --- typed access; `name` says in errors what is looked at ---

  static std::optional<dom::element> find(const dom::object& o, std::string_view key) {
    dom::element value;
    if (o.at_key(key).get(value) || value.is_null()) return std::nullopt;
    return value;
  }
  dom::element required(const dom::object& o, const std::string& path, std::string_view key) const {
    const auto value = find(o, key);
    if (!value) corrupt("{}{}{} is missing", path, path.empty() ? "" : ".", key);
    return *value;
  }
  dom::object object(const dom::element& e, const std::string& name) const {
    dom::object value;
    if (e.get(value)) corrupt("{} is not an object", name);
    return value;
  }
  dom::array array(const dom::element& e, const std::string& name) const {
    dom::array value;
    if (e.get(value)) corrupt("{} is not a list", name);
    return value;
  }
  std::string_view string(const dom::element& e, const std::string& name) const {
    std::string_view value;
    if (e.get(value)) corrupt("{} is not a string", name);
    return value;
  }
  bool boolean(const dom::object& o, const std::string& path, std::string_view key, bool fallback) const {
    const auto value = find(o, key);
    bool result = fallback;
    if (value && value->get(result)) corrupt("{}.{} is neither true nor false", path, key);
    return result;
  }
  std::string type_of(const dom::object& o, const std::string& path) const {
    return std::string(string(required(o, path, "type"), path + ".type"));
  }
  int32_t token_id(const dom::element& e, std::string_view token) const {
    int64_t id = 0;
    if (e.get(id)) corrupt("the id of token {} is not a whole number", show(token));
    if (id < 0 || id > TokenTable::kMaxId)
      corrupt("token {} has id {}, expected 0 to {}", show(token), id, TokenTable::kMaxId);
    return static_cast<int32_t>(id);
  }
  // For an error message: quoted, one line, not long.
  static std::string show(std::string_view text) {
    constexpr size_t kShown = 40;
    std::string shown = repair_utf8(text.substr(0, kShown));
    for (char& c : shown)
      if (static_cast<unsigned char>(c) < 0x20) c = '?';
    if (text.size() <= kShown) return fmt::format("\"{}\"", shown);
    return fmt::format("\"{}...\" ({} bytes)", shown, text.size());
  }

  // --- what we do not run ---

  void refuse_normalizer(const dom::object& file) const {
    const auto value = find(file, "normalizer");
    if (!value) return;
    const dom::object normalizer = object(*value, "normalizer");
    const std::string type = type_of(normalizer, "normalizer");
    if (type == "Sequence" &&
        array(required(normalizer, "normalizer", "normalizers"), "normalizer.normalizers").size() == 0)
      return;
    unsupported("the normalizer {} would change the text before it is split; expected none, as in DeepSeek-VL2's files",
                type);
  }

  void refuse_decoder(const dom::object& file) const {
    const auto value = find(file, "decoder");
    if (!value) return;
    const std::string type = type_of(object(*value, "decoder"), "decoder");
    if (type != "ByteLevel") unsupported("the decoder is {}, expected ByteLevel", type);
  }

  void refuse_model_options(const dom::object& model) const {
    if (find(model, "type") && type_of(model, "model") != "BPE")
      unsupported("model.type is {}, expected BPE", type_of(model, "model"));
    if (boolean(model, "model", "byte_fallback", false)) unsupported("model.byte_fallback is true, expected false");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const auto value = find(model, key);
      if (value && !string(*value, key).empty()) unsupported("model.{} is set, expected none", key);
    }
    if (const auto dropout = find(model, "dropout")) {
      double value = 0;
      if (dropout->get(value)) corrupt("model.dropout is not a number");
      if (value != 0) unsupported("model.dropout is {}: ids would be random", value);
    }
  }

  // --- the model ---

  void read_model(const dom::object& model) {
    refuse_model_options(model);
    impl_->ignore_merges = boolean(model, "model", "ignore_merges", false);
    const dom::object vocab = object(required(model, "model", "vocab"), "model.vocab");
    impl_->tokens.reserve(vocab.size());
    for (const auto& [spelling, value] : vocab) add_token(spelling, token_id(value, spelling));
    if (impl_->tokens.size() == 0) corrupt("model.vocab is empty");

    std::array<int32_t, 256> byte_ids;
    for (unsigned b = 0; b < 256; ++b) {
      std::string spelling;
      append_utf8(byte_level_character(static_cast<uint8_t>(b)), spelling);
      byte_ids[b] = impl_->tokens.find(spelling);
    }
    impl_->bpe = Bpe(byte_ids, read_merges(model));
  }

  void add_token(std::string_view spelling, int32_t id) {
    if (spelling.empty()) corrupt("model.vocab has an empty token (id {})", id);
    if (const int32_t known = impl_->tokens.find(spelling); known != TokenTable::kNone)
      corrupt("token {} is in model.vocab twice, as {} and {}", show(spelling), known, id);
    refuse_taken(id, spelling);
    impl_->tokens.insert(spelling, byte_level_bytes(spelling).value_or(std::string(spelling)), id);
  }

  void refuse_taken(int32_t id, std::string_view spelling) const {
    if (impl_->tokens.has(id))
      corrupt("id {} is taken twice, by {} and {}", id, show(impl_->tokens.spelling(id)), show(spelling));
  }

  int32_t known_token(std::string_view spelling, size_t rank) const {
    const int32_t id = impl_->tokens.find(spelling);
    if (id == TokenTable::kNone)
      corrupt("model.merges[{}] names {}, which is not in model.vocab", rank, show(spelling));
    return id;
  }

  MergeTable read_merges(const dom::object& model) const {
    const dom::array list = array(required(model, "model", "merges"), "model.merges");
    // list.size() saturates at 2^24 - 1, so count.
    size_t count = 0;
    for ([[maybe_unused]] const dom::element& entry : list) ++count;
    MergeTable merges(count);
    std::string merged;
    uint32_t rank = 0;
    for (const dom::element& entry : list) {
      const auto [left, right] = read_pair(entry, rank);
      merged.assign(left).append(right);
      const int32_t left_id = known_token(left, rank);
      const int32_t right_id = known_token(right, rank);
      merges.insert(left_id, right_id, {rank, known_token(merged, rank)});
      ++rank;
    }
    return merges;
  }

  // "a b", or since tokenizers 0.20 ["a", "b"].
  std::pair<std::string_view, std::string_view> read_pair(const dom::element& entry, size_t rank) const {
    std::string_view text;
    if (!entry.get(text)) {
      const size_t space = text.find(' ');
      if (space == text.npos || space == 0 || space + 1 == text.size() || text.find(' ', space + 1) != text.npos)
        corrupt("model.merges[{}] is {}, expected two tokens with a space between", rank, show(text));
      return {text.substr(0, space), text.substr(space + 1)};
    }
    dom::array pair;
    std::array<std::string_view, 2> parts;
    if (entry.get(pair) || pair.size() != 2 || pair.at(0).get(parts[0]) || pair.at(1).get(parts[1]) ||
        parts[0].empty() || parts[1].empty())
      corrupt("model.merges[{}] is neither \"a b\" nor [\"a\", \"b\"]", rank);
    return {parts[0], parts[1]};
  }

  // --- added tokens ---

  void read_added_tokens(const dom::object& file) {
    const auto value = find(file, "added_tokens");
    if (!value) return;
    size_t i = 0;
    for (const dom::element& entry : array(*value, "added_tokens")) {
      const std::string path = fmt::format("added_tokens[{}]", i++);
      const dom::object o = object(entry, path);
      const std::string_view content = string(required(o, path, "content"), path + ".content");
      AddedToken token;
      token.id = token_id(required(o, path, "id"), content);
      token.special = boolean(o, path, "special", false);
      token.normalized = boolean(o, path, "normalized", !token.special);
      token.lstrip = boolean(o, path, "lstrip", false);
      token.rstrip = boolean(o, path, "rstrip", false);
      if (boolean(o, path, "single_word", false))
        unsupported("{} ({}) is a single_word token, expected false", path, show(content));
      if (content.empty() || content.size() > AddedTokenTrie::kMaxContent)
        corrupt("{} has {} bytes of content, expected 1 to {}", path, content.size(), AddedTokenTrie::kMaxContent);
      add_added_token(content, token);
    }
  }

  void add_added_token(std::string_view content, const AddedToken& token) {
    const int32_t known = impl_->tokens.find(content);
    if (known == TokenTable::kNone)
      refuse_taken(token.id, content);
    else if (known != token.id)
      corrupt("token {} has two ids, {} and in added_tokens {}", show(content), known, token.id);
    else if (impl_->added.contains(known))
      corrupt("token {} is in added_tokens twice", show(content));
    impl_->add(content, token);
  }

  // --- the pre_tokenizer ---

  void read_pre_tokenizer(const dom::object& file) {
    const auto value = find(file, "pre_tokenizer");
    if (!value) unsupported("there is no pre_tokenizer, expected one that ends in ByteLevel");
    const dom::object top = object(*value, "pre_tokenizer");
    bool byte_level = false;
    if (type_of(top, "pre_tokenizer") != "Sequence") {
      read_step(top, "pre_tokenizer", byte_level);
    } else {
      size_t i = 0;
      for (const dom::element& step :
           array(required(top, "pre_tokenizer", "pretokenizers"), "pre_tokenizer.pretokenizers")) {
        const std::string path = fmt::format("pre_tokenizer.pretokenizers[{}]", i++);
        if (byte_level) unsupported("{} comes after ByteLevel, which must be the last step", path);
        if (i > kMaxSteps) unsupported("pre_tokenizer has more than {} steps", kMaxSteps);
        read_step(object(step, path), path, byte_level);
      }
    }
    if (!byte_level) unsupported("the pre_tokenizer does not end in ByteLevel; only byte-level vocabularies are run");
  }

  void read_step(const dom::object& o, const std::string& path, bool& byte_level) {
    const std::string type = type_of(o, path);
    SplitStep step;
    if (type == "Split") {
      read_split(o, path, step);
    } else if (type == "Digits") {
      step.regex.emplace_back("\\p{N}", regex_name(path));
      step.behavior =
          boolean(o, path, "individual_digits", false) ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
    } else if (type == "ByteLevel") {
      byte_level = true;  // trim_offsets concerns offsets, which we do not report
      step.add_prefix_space = boolean(o, path, "add_prefix_space", true);
      if (boolean(o, path, "use_regex", true)) step.regex.emplace_back(kGpt2Pattern, regex_name(path));
      if (!step.add_prefix_space && step.regex.empty()) return;
    } else {
      unsupported("{} is {}, expected Sequence, Split, Digits or ByteLevel", path, show(type));
    }
    impl_->pre_tokenizer.add(std::move(step));
  }

  void read_split(const dom::object& o, const std::string& path, SplitStep& step) const {
    const dom::object pattern = object(required(o, path, "pattern"), path + ".pattern");
    if (const auto regex = find(pattern, "Regex"))
      step.regex.emplace_back(std::string(string(*regex, path + ".pattern.Regex")), regex_name(path));
    else if (const auto literal = find(pattern, "String"))
      step.literal = string(*literal, path + ".pattern.String");
    else
      corrupt("{}.pattern is neither {{\"Regex\": ...}} nor {{\"String\": ...}}", path);
    step.invert = boolean(o, path, "invert", false);
    step.behavior = behavior(string(required(o, path, "behavior"), path + ".behavior"), path);
  }

  SplitBehavior behavior(std::string_view name, const std::string& path) const {
    if (name == "Isolated") return SplitBehavior::kIsolated;
    if (name == "Removed") return SplitBehavior::kRemoved;
    if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
    if (name == "Contiguous") return SplitBehavior::kContiguous;
    unsupported("{}.behavior is {}, expected Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous", path,
                show(name));
  }

  std::string regex_name(const std::string& path) const { return fmt::format("{}: {}", where_, path); }

  static constexpr size_t kMaxSteps = 64;

  std::string where_;
  std::unique_ptr<Tokenizer::Impl> impl_;
};

Tokenizer Tokenizer::parse(std::string_view json, const std::string& where) {
  return TokenizerJsonReader(where).read(json);
}

}  // namespace vl2
