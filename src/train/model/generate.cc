// One answer, token by token, over cached keys and values: for looking at a model while it trains. The engine is the
// place for speed.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>

#include "train/model/decoder.h"
#include "train/model/deepseek_vl2.h"
#include "train/model/input_embeddings.h"
#include "train/model/model_context.h"
#include "train/model/rope.h"

namespace vl2::train {
namespace {

KvCache make_cache(const LanguageConfig& c, int64_t capacity, const at::TensorOptions& options) {
  const int64_t heads = c.use_mla ? c.num_attention_heads : c.num_key_value_heads;
  KvCache cache;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    cache.k_1LHK.push_back(at::zeros({1, capacity, heads, c.qk_head_dim()}, options));
    cache.v_1LHV.push_back(at::zeros({1, capacity, heads, c.use_mla ? c.v_head_dim : c.qk_head_dim()}, options));
    if (!c.use_mla) continue;
    cache.c_MC.push_back(at::zeros({capacity, c.kv_lora_rank}, options));
    cache.pe_MR.push_back(at::zeros({capacity, c.qk_rope_head_dim}, options));
  }
  return cache;
}

// The new tokens stand at `begin` and after.
std::shared_ptr<ForwardState> make_state(const LanguageConfig& config, int64_t begin, int64_t count, int64_t capacity,
                                         bool rounds_factors, at::Device device) {
  auto state = std::make_shared<ForwardState>();
  state->rounds_factors = rounds_factors;
  state->options.dropout = false;
  state->tokens = count;
  state->rows = count;
  SequenceLayout::Group group;
  group.samples = 1;
  const at::Tensor query_L1 = at::arange(begin, begin + count, at::kLong).unsqueeze(1);
  const at::Tensor key_1M = at::arange(capacity, at::kLong).unsqueeze(0);
  group.mask_BLL = at::zeros({1, count, capacity}, at::kFloat).masked_fill_(key_1M.gt(query_L1), kHidden).to(device);
  state->layout.groups.push_back(std::move(group));
  std::vector<int32_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(begin));
  const std::vector<int64_t> starts = {0, count};
  state->rotary = rotary_embedding(config, positions, starts, count, device);
  return state;
}

}  // namespace

Generation DeepseekVl2::generate(const MultimodalPrompt& prompt, int64_t max_tokens, DType compute) const {
  if (prompt.input_ids.empty() || prompt.images_seq_mask.size() != prompt.input_ids.size())
    fail(ErrorCode::kInvalidArgument, "generate: a prompt of {} tokens with {} mask values", prompt.input_ids.size(),
         prompt.images_seq_mask.size());
  const c10::NoGradGuard no_gradients;
  const LanguageConfig& c = config().language;
  const at::Device device = parameters_.device();
  const auto length = static_cast<int64_t>(prompt.input_ids.size());
  const int64_t capacity = rounded_length(length + std::max<int64_t>(0, max_tokens));
  KvCache cache = make_cache(c, capacity, at::TensorOptions().dtype(at::kFloat).device(device));
  std::map<std::string, at::Tensor> rounded;
  ModelContext context;
  context.parameters = &parameters_;
  context.adapters = adapters_;
  context.cache = &cache;
  context.rounded = &rounded;

  std::vector<int32_t> ids = prompt.input_ids;
  std::vector<uint8_t> mask = prompt.images_seq_mask;
  std::span<const TiledImage> images = prompt.images;
  Generation generation;
  while (static_cast<int64_t>(generation.tokens.size()) < max_tokens) {
    const auto count = static_cast<int64_t>(ids.size());
    context.state = make_state(c, cache.length, count, capacity, compute == DType::kBF16, device);
    const at::Tensor x_TD = decoder(context, input_embeddings(context, ids, mask, images, "the prompt"));
    cache.length += count;
    const at::Tensor logits_V = output_logits(context, x_TD.narrow(0, count - 1, 1))[0];
    const auto [values, tokens] = logits_V.topk(2);
    const int64_t token = tokens[0].item<int64_t>();
    generation.tokens.push_back(static_cast<int32_t>(token));
    generation.margins.push_back(values[0].item<float>() - values[1].item<float>());
    if (token == c.eos_token_id) break;
    ids = {static_cast<int32_t>(token)};
    mask = {0};
    images = {};
  }
  return generation;
}

}  // namespace vl2::train
