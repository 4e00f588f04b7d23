#include "train/loop/train_step.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2::train {
namespace {

// Records named in a message, at most.
constexpr size_t kNamedRecords = 4;

std::string name_records(const std::vector<std::string>& ids) {
  std::string text;
  for (size_t i = 0; i < std::min(ids.size(), kNamedRecords); ++i) text += (i > 0 ? ", " : "") + ids[i];
  if (ids.size() > kNamedRecords) text += fmt::format(" and {} more", ids.size() - kNamedRecords);
  return text;
}

// Whose loss is not finite.
std::vector<std::string> bad_records(const MicroBatch& batch, const at::Tensor& sample_losses) {
  const at::Tensor finite = at::isfinite(sample_losses).cpu();
  std::vector<std::string> ids;
  for (int64_t s = 0; s < batch.num_samples(); ++s)
    if (!finite[s].item<bool>()) ids.push_back(batch.record_ids[static_cast<size_t>(s)]);
  return ids;
}

// What a step needs of a micro-batch's pass.
struct PassResult {
  double loss_sum = 0, aux_loss = 0;
  at::Tensor sample_losses, tokens_per_expert;
};

double share_of_rows(const MicroBatch& batch, int64_t rows) {
  return (static_cast<double>(batch.row_starts.size()) - 1) / static_cast<double>(rows);
}

PassResult forward_and_backward(const DeepseekVl2& model, const MicroBatch& batch, const ForwardOptions& options) {
  const ForwardResult pass = model.forward(batch, options);
  PassResult result;
  result.loss_sum = pass.loss_sum.item<double>();
  result.sample_losses = pass.sample_losses;
  if (!std::isfinite(result.loss_sum)) return result;
  pass.loss.backward();
  if (!pass.aux_losses.defined() || pass.aux_losses.numel() == 0) return result;
  result.aux_loss = pass.aux_losses.sum().item<double>();
  result.tokens_per_expert = pass.tokens_per_expert;
  return result;
}

void drop_gradients(const AdamW& optimizer) {
  for (const OptimizedParameter& p : optimizer.parameters()) {
    at::Tensor value = p.value;
    value.mutable_grad() = at::Tensor();
  }
}

}  // namespace

int64_t count_supervised(const MicroBatch& batch) {
  int64_t count = 0;
  for (size_t s = 0; s + 1 < batch.sample_starts.size(); ++s) {
    const auto first = batch.labels.begin() + batch.sample_starts[s],
               end = batch.labels.begin() + batch.sample_starts[s + 1];
    if (first != end) count += (end - first - 1) - std::count(first + 1, end, kIgnoredLabel);
  }
  return count;
}

int64_t count_tiles(const MicroBatch& batch) {
  int64_t count = 0;
  for (const TiledImage& image : batch.images) count += image.num_tiles();
  return count;
}

StepResult train_step(Replicas& replicas, Parameters& parameters, AdamW& optimizer, std::span<const MicroBatch> batches,
                      double learning_rate, const StepOptions& options) {
  StepResult result;
  int64_t rows = 0;
  std::vector<std::string> all_records;
  for (const MicroBatch& batch : batches) {
    result.tokens += batch.num_tokens();
    result.samples += batch.num_samples();
    result.supervised += count_supervised(batch);
    result.tiles += count_tiles(batch);
    rows += static_cast<int64_t>(batch.row_starts.size()) - 1;
    all_records.insert(all_records.end(), batch.record_ids.begin(), batch.record_ids.end());
  }
  if (result.supervised == 0)
    fail(ErrorCode::kInvalidArgument, "none of the {} records of this step has a token to learn: {}", result.samples,
         name_records(all_records));

  const auto give_up = [&](std::string reason) {
    replicas.drop_gradients();
    drop_gradients(optimizer);
    result.skipped = true;
    result.reason = std::move(reason);
    return result;
  };
  std::vector<PassResult> passes(batches.size());
  drop_gradients(optimizer);
  replicas.run(std::ssize(batches), [&](const DeepseekVl2& model, int64_t item) {
    const auto i = static_cast<size_t>(item);
    ForwardOptions forward = options.forward;
    forward.loss_scale = 1.0 / static_cast<double>(result.supervised);
    forward.aux_scale = share_of_rows(batches[i], rows);
    forward.dropout_seed =
        splitmix64(options.forward.dropout_seed ^
                   splitmix64(static_cast<uint64_t>(optimizer.steps()) << 20 | static_cast<uint64_t>(i)));
    passes[i] = forward_and_backward(model, batches[i], forward);
  });
  double loss_sum = 0;
  at::Tensor tokens_per_expert;
  for (size_t i = 0; i < batches.size(); ++i) {
    const PassResult& pass = passes[i];
    if (!std::isfinite(pass.loss_sum))
      return give_up(fmt::format("the loss is {} in {}", pass.loss_sum,
                                 name_records(bad_records(batches[i], pass.sample_losses))));
    loss_sum += pass.loss_sum;
    if (!pass.tokens_per_expert.defined()) continue;
    result.aux_loss += share_of_rows(batches[i], rows) * pass.aux_loss;
    tokens_per_expert =
        tokens_per_expert.defined() ? tokens_per_expert + pass.tokens_per_expert : pass.tokens_per_expert;
  }
  replicas.collect_gradients();
  result.loss = loss_sum / static_cast<double>(result.supervised);
  result.gradient_norm = optimizer.gradient_norm();
  if (!std::isfinite(result.gradient_norm))
    return give_up(fmt::format("the gradient is {} after {}", result.gradient_norm, name_records(all_records)));
  if (options.gradient_clip > 0 && result.gradient_norm > options.gradient_clip)
    optimizer.scale_gradients(options.gradient_clip / result.gradient_norm);
  optimizer.step(learning_rate);
  drop_gradients(optimizer);
  if (tokens_per_expert.defined()) {
    const std::vector<double> violations = update_expert_bias(parameters, tokens_per_expert, options.expert_bias_step);
    for (double violation : violations) result.max_violation = std::max(result.max_violation, violation);
  }
  return result;
}

}  // namespace vl2::train
