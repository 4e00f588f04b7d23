// T: tokens of the micro-batch, R: tokens that predict a supervised one, D: hidden size.
#include "train/model/deepseek_vl2.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "train/model/decoder.h"
#include "train/model/input_embeddings.h"
#include "train/model/model_context.h"
#include "train/model/rope.h"

namespace vl2::train {
namespace {

std::string name_of(const MicroBatch& batch) {
  return batch.record_ids.empty() ? "the micro-batch" : "the micro-batch from " + batch.record_ids.front();
}

void check_starts(const std::vector<int64_t>& starts, int64_t tokens, const char* what, const std::string& where) {
  if (starts.size() < 2 || starts.front() != 0 || starts.back() != tokens ||
      !std::is_sorted(starts.begin(), starts.end()))
    fail(ErrorCode::kInvalidArgument, "{}: {} do not run from 0 to its {} tokens", where, what, tokens);
}

void check_batch(const MicroBatch& batch, const ModelConfig& config) {
  const std::string where = name_of(batch);
  const auto tokens = static_cast<size_t>(batch.num_tokens());
  if (tokens == 0) fail(ErrorCode::kInvalidArgument, "{} has no tokens", where);
  if (batch.labels.size() != tokens || batch.positions.size() != tokens || batch.vision_mask.size() != tokens ||
      (!batch.key_mask.empty() && batch.key_mask.size() != tokens))
    fail(ErrorCode::kInvalidArgument, "{}: {} tokens, {} labels, {} positions, {} and {} mask values", where, tokens,
         batch.labels.size(), batch.positions.size(), batch.vision_mask.size(), batch.key_mask.size());
  check_starts(batch.sample_starts, batch.num_tokens(), "sample_starts", where);
  check_starts(batch.row_starts, batch.num_tokens(), "row_starts", where);
  for (size_t t = 0; t < tokens; ++t) {
    if (batch.labels[t] != kIgnoredLabel && (batch.labels[t] < 0 || batch.labels[t] >= config.language.vocab_size))
      fail(ErrorCode::kInvalidArgument, "{}: label {} is {}, expected {} or 0 to {}", where, t, batch.labels[t],
           kIgnoredLabel, config.language.vocab_size - 1);
    if (batch.positions[t] < 0 || batch.positions[t] >= batch.num_tokens())
      fail(ErrorCode::kInvalidArgument, "{}: position {} is {}, expected 0 to {}", where, t, batch.positions[t],
           tokens - 1);
  }
}

// 1 / length at each of a row's tokens.
at::Tensor row_mean(const MicroBatch& batch, bool each_row, at::Device device) {
  const std::vector<int64_t> whole = {0, batch.num_tokens()};
  std::vector<int64_t> starts;
  for (const int64_t start : each_row ? batch.row_starts : whole)
    if (starts.empty() || start > starts.back()) starts.push_back(start);
  const auto rows = static_cast<int64_t>(starts.size()) - 1;
  std::vector<int64_t> row_of(static_cast<size_t>(batch.num_tokens()));
  at::Tensor mean_T = at::empty({1, batch.num_tokens()}, at::kFloat);
  for (int64_t b = 0; b < rows; ++b) {
    const int64_t begin = starts[static_cast<size_t>(b)], length = starts[static_cast<size_t>(b) + 1] - begin;
    std::fill_n(row_of.begin() + begin, length, b);
    std::fill_n(mean_T.data_ptr<float>() + begin, length, 1.0f / static_cast<float>(length));
  }
  return at::zeros({rows, batch.num_tokens()}, mean_T.options().device(device))
      .scatter_(0, to_tensor(row_of, device).unsqueeze(0), mean_T.to(device));
}

std::shared_ptr<ForwardState> make_state(const MicroBatch& batch, const ForwardOptions& options,
                                         const ModelConfig& config, at::Device device) {
  if (options.compute != DType::kF32 && options.compute != DType::kBF16)
    fail(ErrorCode::kInvalidArgument, "compute type {}: expected F32 or BF16", dtype_name(options.compute));
  auto state = std::make_shared<ForwardState>();
  state->options = options;
  state->compute = options.compute == DType::kBF16 ? at::kBFloat16 : at::kFloat;
  state->tokens = batch.num_tokens();
  state->rows = state->compute == at::kFloat || options.tap ? state->tokens : rounded_length(state->tokens);
  const bool fused = state->compute == at::kBFloat16 && device.is_cpu() && batch.key_mask.empty() && !options.tap;
  if (fused && !options.whole_rows) {
    state->sample_starts = batch.sample_starts;
  } else if (options.whole_rows && batch.key_mask.empty() && !options.tap) {
    state->layout = row_layout(batch.sample_starts, batch.row_starts, state->rows, state->compute, device);
  } else {
    state->layout = sequence_layout(batch.sample_starts, state->rows, batch.key_mask, state->compute, device);
  }
  state->rotary = rotary_embedding(config.language, batch.positions, batch.sample_starts, state->rows, device);
  if (config.language.n_routed_experts) state->row_mean_BT = row_mean(batch, options.seq_aux, device);
  return state;
}

// The tokens that predict a supervised one within their sample, what they should, and their samples.
struct Targets {
  std::vector<int64_t> rows, tokens, samples;
};

Targets targets_of(const MicroBatch& batch) {
  Targets targets;
  for (size_t i = 0; i + 1 < batch.sample_starts.size(); ++i) {
    for (int64_t t = batch.sample_starts[i]; t + 1 < batch.sample_starts[i + 1]; ++t) {
      const int32_t label = batch.labels[static_cast<size_t>(t) + 1];
      if (label == kIgnoredLabel) continue;
      targets.rows.push_back(t);
      targets.tokens.push_back(label);
      targets.samples.push_back(static_cast<int64_t>(i));
    }
  }
  return targets;
}

// [R] float32. Rows are padded as those of the batch are.
at::Tensor losses(const ModelContext& context, const at::Tensor& x_TD, const Targets& targets) {
  std::vector<int64_t> rows = targets.rows, tokens = targets.tokens;
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t padded = context.state->compute == at::kFloat ? count : rounded_length(count);
  rows.resize(static_cast<size_t>(padded), -1);
  tokens.resize(static_cast<size_t>(padded), 0);
  std::vector<int64_t> back(static_cast<size_t>(x_TD.size(0)), -1);
  for (int64_t r = 0; r < count; ++r) back[static_cast<size_t>(rows[static_cast<size_t>(r)])] = r;
  const at::Device device = x_TD.device();
  const at::Tensor x_RD = move_rows(x_TD, RowMap(rows, device), RowMap(back, device));
  return output_losses(context, x_RD, to_tensor(tokens, device)).narrow(0, 0, count);
}

}  // namespace

DeepseekVl2::DeepseekVl2(const Parameters& parameters, const Adapters* adapters)
    : parameters_(parameters), adapters_(adapters) {}

ForwardResult DeepseekVl2::forward(const MicroBatch& batch, const ForwardOptions& options) const {
  check_batch(batch, config());
  const at::Device device = parameters_.device();
  ForwardRecord record;
  ModelContext context;
  context.parameters = &parameters_;
  context.adapters = adapters_;
  context.state = make_state(batch, options, config(), device);
  context.record = &record;

  at::Tensor x_TD = input_embeddings(context, batch.input_ids, batch.vision_mask, batch.images, name_of(batch));
  x_TD = decoder(context, x_TD);

  ForwardResult result;
  const Targets targets = targets_of(batch);
  result.supervised = static_cast<int64_t>(targets.rows.size());
  const at::Tensor losses_R = losses(context, x_TD, targets).to(at::kDouble);
  const at::Tensor sum = losses_R.sum();
  result.loss = (sum * options.loss_scale).to(at::kFloat);
  result.loss_sum = sum.detach();
  result.sample_losses = at::zeros({static_cast<int64_t>(batch.sample_starts.size()) - 1}, losses_R.options())
                             .index_add_(0, to_tensor(targets.samples, device), losses_R.detach());
  result.moe_layers = record.moe_layers;
  if (!record.moe_layers.empty()) {
    result.aux_losses = at::stack(record.aux_losses);
    result.tokens_per_expert = at::stack(record.tokens_per_expert);
  }
  if (options.all_logits) {
    const c10::NoGradGuard no_gradients;
    result.logits = output_logits(context, x_TD.narrow(0, 0, batch.num_tokens()));
  }
  return result;
}

}  // namespace vl2::train
