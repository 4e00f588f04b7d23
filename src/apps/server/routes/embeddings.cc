// POST /v1/embeddings, and Ollama's /api/embed and /api/embeddings: what the model makes of texts and pictures, as one
// vector each (Answer::embedding).
#include <bit>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/api_fields.h"
#include "apps/server/embedding_run.h"
#include "apps/server/prompt.h"
#include "apps/server/route.h"
#include "core/base/base64.h"
#include "core/base/json.h"
#include "core/text/utf8.h"

namespace vl2::server {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kMostInputs = 2048;
constexpr size_t kMostTokens = 300'000;  // of all inputs together
constexpr const char* kExpected = "a text, token ids, {\"content\": [...]}, or a list of these";

struct Input {
  std::string text;          // with marks for pictures
  size_t num_pictures = 0;   // the next ones of the request
  std::vector<int32_t> ids;  // in place of a text
  std::string param;
};

bool is_ids(const json& value) { return value.is_array() && !value.empty() && value.front().is_number(); }

// The inputs of a request, and the pictures of all of them.
class Inputs {
 public:
  Inputs(RouteCall& call, const json& value, const std::string& param) : call_(call) {
    if (value.is_array() && !is_ids(value)) {
      if (value.empty() || value.size() > kMostInputs)
        throw ApiError(400, fmt::format("{} has {} entries, expected 1 to {}", param, value.size(), kMostInputs), "",
                       param);
      for (size_t i = 0; i < value.size(); ++i) add(value[i], fmt::format("{}[{}]", param, i));
    } else {
      add(value, param);
    }
  }

  // `truncate`: texts that are too long lose their end.
  std::vector<MultimodalPrompt> prompts(bool truncate) {
    LoadedPictures all = load_pictures(call_.server, std::move(sources_));
    std::vector<MultimodalPrompt> result;
    size_t next = 0, tokens = 0;
    for (const Input& input : inputs_) {
      const LoadedPictures pictures = part_of(all, next, input.num_pictures);
      next += input.num_pictures;
      result.push_back(prompt(input, pictures, truncate));
      tokens += result.back().input_ids.size();
      if (tokens > kMostTokens)
        throw ApiError(400,
                       fmt::format("the inputs have more than {} tokens together; send fewer at a time", kMostTokens),
                       "", "input");
    }
    return result;
  }

 private:
  void add(const json& value, const std::string& param) {
    Input input;
    input.param = param;
    const size_t before = sources_.size();
    if (is_ids(value)) {
      for (const json& id : value) input.ids.push_back(token(id, param));
    } else if (value.is_object() && value.contains("content")) {
      input.text = parse_content(value["content"], param + ".content", sources_);
    } else if (value.is_string()) {
      input.text = value.get<std::string>();
    } else {
      throw ApiError(400, fmt::format("{} is {}, expected {}", param, describe_json(value), kExpected), "", param);
    }
    if (input.text.empty() && input.ids.empty())
      throw ApiError(400, fmt::format("{} is empty; there is nothing to embed", param), "", param);
    input.num_pictures = sources_.size() - before;
    inputs_.push_back(std::move(input));
  }

  int32_t token(const json& id, const std::string& param) const {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX ||
        !call_.server.engine().tokenizer().has(id.get<int32_t>()))
      throw ApiError(400, fmt::format("{}: {} is no token id of this model", param, describe_json(id)), "", param);
    return id.get<int32_t>();
  }

  // Moves the files out.
  static LoadedPictures part_of(LoadedPictures& all, size_t first, size_t count) {
    LoadedPictures part;
    for (size_t i = first; i < first + count; ++i) {
      part.files.push_back(std::move(all.files[i]));
      part.params.push_back(all.params[i]);
      part.sizes.push_back(all.sizes[i]);
      part.details.push_back(all.details[i]);
    }
    return part;
  }

  MultimodalPrompt prompt(const Input& input, const LoadedPictures& pictures, bool truncate) {
    if (!input.ids.empty()) {
      MultimodalPrompt result;
      result.input_ids = input.ids;
      result.images_seq_mask.assign(input.ids.size(), 0);
      if (truncate) cut(result);
      check_context(call_.server, result, input.param);
      return result;
    }
    if (!truncate || input.num_pictures > 0)
      return build_text(call_.server, input.text, kPictureMark, pictures, false, input.param);
    // No token is made of more bytes, so what stands behind these is cut off anyway.
    constexpr size_t kLongestToken = 512;
    std::string text = input.text.substr(0, static_cast<size_t>(call_.server.engine().max_context()) * kLongestToken);
    if (text.size() < input.text.size()) text = repair_utf8(text);
    PromptOptions options;
    options.untrusted = true;
    options.placeholder = kPictureMark;
    MultimodalPrompt result = call_.server.engine().processor().build_raw_from_sizes(text, {}, options);
    cut(result);
    return result;
  }

  void cut(MultimodalPrompt& prompt) const {
    const auto most = static_cast<size_t>(call_.server.engine().max_context() - 1);
    if (prompt.input_ids.size() <= most) return;
    prompt.input_ids.resize(most);
    prompt.images_seq_mask.resize(most);
    prompt.labels.clear();
  }

  RouteCall& call_;
  std::vector<Input> inputs_;
  std::vector<MediaSource> sources_;
};

void check_dimensions(const RouteCall& call, const Fields& fields) {
  const int64_t size = call.server.engine().config().language.hidden_size;
  if (fields.find("dimensions") != nullptr && fields.integer("dimensions", 1, INT32_MAX) != size)
    fields.reject("dimensions", fmt::format("{}: vectors of this model are not cut short", size), "unsupported_value");
}

// float32, little-endian.
std::string as_base64(const std::vector<float>& vector) {
  std::string bytes;
  for (const float value : vector) {
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xff);
  }
  return encode_base64(bytes);
}

}  // namespace

void answer_embeddings(RouteCall& call) {
  call.server.engine();
  const json body = read_json(call);
  const Fields fields(body);
  call.server.check_model(fields.string("model").value_or(""));
  const std::string format = fields.string("encoding_format").value_or("float");
  if (format != "float" && format != "base64") fields.reject("encoding_format", "float or base64", "unsupported_value");
  check_dimensions(call, fields);
  const json* input = fields.find("input");
  if (input == nullptr) fields.reject("input", kExpected);
  const auto done = run_embeddings(call, Inputs(call, *input, "input").prompts(false));
  if (!done) return;
  ordered_json data = ordered_json::array();
  for (size_t i = 0; i < done->vectors.size(); ++i) {
    const std::vector<float>& vector = done->vectors[i];
    ordered_json embedding = format == "base64" ? ordered_json(as_base64(vector)) : ordered_json(vector);
    data.push_back({{"object", "embedding"}, {"index", i}, {"embedding", std::move(embedding)}});
  }
  reply_json(call, {{"object", "list"},
                    {"data", std::move(data)},
                    {"model", call.server.model_id()},
                    {"usage",
                     {{"prompt_tokens", done->usage.prompt_tokens},
                      {"total_tokens", done->usage.prompt_tokens},
                      {"prompt_tokens_details", {{"image_tokens", done->usage.vision_tokens}}}}}});
}

void answer_ollama_embed(RouteCall& call) {
  call.server.engine();
  const json body = read_json(call);
  const Fields fields(body);
  const std::string name = check_ollama_model(call, fields);
  check_dimensions(call, fields);
  const bool truncate = fields.boolean("truncate").value_or(true);
  const json* input = fields.find("input");
  Embeddings done;
  if (input != nullptr && !input->empty() && *input != "") {
    auto run = run_embeddings(call, Inputs(call, *input, "input").prompts(truncate));
    if (!run) return;
    done = std::move(*run);
  }
  reply_json(call, {{"model", name},
                    {"embeddings", done.vectors},
                    {"total_duration", static_cast<int64_t>(done.total_ms * 1e6)},
                    {"load_duration", 0},
                    {"prompt_eval_count", done.usage.prompt_tokens}});
}

// Ollama's older form: one text, one vector.
void answer_ollama_embeddings(RouteCall& call) {
  call.server.engine();
  const json body = read_json(call);
  const Fields fields(body);
  check_ollama_model(call, fields);
  const std::string prompt = fields.string("prompt").value_or("");
  std::vector<float> vector;
  if (!prompt.empty()) {
    auto run = run_embeddings(call, Inputs(call, json(prompt), "prompt").prompts(true));
    if (!run) return;
    vector = std::move(run->vectors.front());
  }
  reply_json(call, {{"embedding", vector}});
}

}  // namespace vl2::server
