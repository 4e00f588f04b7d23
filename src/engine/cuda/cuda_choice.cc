// Tokens chosen on the device: of every row its id and what names it come back, not the row.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/cuda/cuda_context.h"
#include "engine/cuda/kernels/choose.h"

namespace vl2::cuda {
namespace {

static_assert(kMostLikely == kMostLikelyAtMost);

// What is more than 2^31 ids is all of them.
int32_t limited(int64_t count) {
  return static_cast<int32_t>(std::min<int64_t>(count, std::numeric_limits<int32_t>::max()));
}

RuleOfRow rule_of_row(const ChoiceRule& rule) {
  RuleOfRow row{};
  row.plain = rule.temperature == 0 && rule.edits.empty() ? 1 : 0;
  row.uniform = rule.uniform;
  row.top_p = rule.top_p;
  // The least temperature there is would make it infinite, and 0 times that is no number.
  if (rule.temperature > 0) row.inverse_temperature = static_cast<float>(std::min(1 / rule.temperature, double{1e30f}));
  row.least = static_cast<float>(std::log(rule.min_p));
  row.top_k = limited(rule.top_k);
  row.most_likely = limited(rule.most_likely);
  return row;
}

std::vector<EditOfLogit> edits_of(std::span<const ChoiceRule> rules) {
  std::vector<EditOfLogit> edits;
  for (size_t row = 0; row < rules.size(); ++row)
    for (const LogitEdit& edit : rules[row].edits)
      edits.push_back({static_cast<int32_t>(row), edit.id, edit.bias, edit.penalty, edit.less});
  return edits;
}

void choose_by_rules(const CudaContext& context, ChoiceOfRow* choices, const RowsView& logits,
                     std::span<const ChoiceRule> rules, int64_t num_ids) {
  std::vector<RuleOfRow> of_rows(rules.size());
  std::transform(rules.begin(), rules.end(), of_rows.begin(), rule_of_row);
  const RuleOfRow* on_device = context.uploaded(std::span<const RuleOfRow>(of_rows));
  if (!std::all_of(of_rows.begin(), of_rows.end(), [](const RuleOfRow& row) { return row.plain != 0; })) {
    const std::vector<EditOfLogit> edits = edits_of(rules);
    const auto count = static_cast<int64_t>(edits.size());
    const EditOfLogit* edits_there = context.uploaded(std::span<const EditOfLogit>(edits));
    float* kept = context.scratch<float>(count);
    edit_logits(context.stream(), logits, edits_there, kept, count, false);
    choose_by_rule(context.stream(), choices, logits, num_ids, on_device);
    edit_logits(context.stream(), logits, edits_there, kept, count, true);
  }
  name_choices(context.stream(), choices, logits, on_device);
}

}  // namespace

void choose_ids(const CudaContext& context, std::span<ChosenId> out, Tensor logits, std::span<const ChoiceRule> rules,
                int64_t num_ids) {
  if (out.empty()) return;
  Workspace::Scope scope(context.workspace);
  auto* choices = context.scratch<ChoiceOfRow>(logits.rows);
  choose_largest(context.stream(), choices, rows_view(logits), num_ids);
  if (!std::all_of(rules.begin(), rules.end(), [](const ChoiceRule& rule) { return rule.takes_largest(); }))
    choose_by_rules(context, choices, rows_view(logits), rules, num_ids);
  std::vector<ChoiceOfRow> found(out.size());
  context.device.download(found.data(), choices, found.size() * sizeof(ChoiceOfRow));
  for (size_t i = 0; i < found.size(); ++i) {
    const ChoiceOfRow& row = found[i];
    out[i] = {row.id, row.logit, row.log_sum_exp};
    if (rules.empty() || !std::isfinite(row.log_sum_exp)) continue;
    for (size_t k = 0; k < static_cast<size_t>(rules[i].most_likely); ++k)
      out[i].most_likely.push_back({row.likely_ids[k], row.likely_logits[k]});
  }
}

}  // namespace vl2::cuda
