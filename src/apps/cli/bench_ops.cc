#include "apps/cli/bench_ops.h"

#include <algorithm>

namespace vl2::cli {

void OpTable::work(std::string_view op, const OpWork& work) {
  OpRow& row = rows_[std::string(op)];
  row.op = op;
  ++row.calls;
  row.work += work;
}

void OpTable::before(std::string_view) { start_ = Clock::now(); }

void OpTable::after(std::string_view op, const std::string&) {
  rows_.find(op)->second.seconds += std::chrono::duration<double>(Clock::now() - start_).count();
}

std::vector<OpRow> OpTable::rows() const {
  std::vector<OpRow> result;
  for (const auto& [op, row] : rows_) result.push_back(row);
  std::stable_sort(result.begin(), result.end(), [](const OpRow& a, const OpRow& b) { return a.seconds > b.seconds; });
  return result;
}

double OpTable::experts_per_layer() const {
  for (const char* op : {"all_experts_add", "all_experts", "routed_experts"})
    if (const auto found = rows_.find(op); found != rows_.end())
      return static_cast<double>(found->second.work.experts) / static_cast<double>(found->second.calls);
  return 0;
}

void finish_ops(std::vector<OpRow>& rows, const MachineLimits& limits, const std::string& unit,
                const std::string& float_unit, const std::string& attention_unit) {
  double all = 0;
  for (const OpRow& row : rows) all += row.seconds;
  for (OpRow& row : rows) {
    const std::string& own = row.op == "route" || row.op == "cached_attention" ? float_unit
                             : row.op.ends_with("_attention")                  ? attention_unit
                                                                               : unit;
    const double compute = row.work.flops / (limits.tflops.at(own) * 1e12);
    const double read = row.work.bytes() / (limits.read_gbps * 1e9);
    row.limit = compute > read ? own : "read";
    row.part = all > 0 ? row.seconds / all : 0;
    row.share = row.seconds > 0 ? std::max(compute, read) / row.seconds : 0;
  }
}

}  // namespace vl2::cli
