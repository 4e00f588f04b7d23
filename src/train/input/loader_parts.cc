#include "train/input/loader_parts.h"

#include <utility>

#include "core/base/error.h"
#include "train/input/assemble.h"

namespace vl2::train {

void check_options(const LoaderOptions& o) {
  const auto at_least = [](const char* name, int64_t value, int64_t low) {
    if (value < low) fail(ErrorCode::kInvalidArgument, "{} is {}, expected at least {}", name, value, low);
  };
  at_least("max_length", o.sample.max_length, 1);
  at_least("rows_per_batch", o.rows_per_batch, 1);
  at_least("look_ahead", o.look_ahead, 1);
  at_least("batches_ahead", o.batches_ahead, 1);
  at_least("threads", o.threads, 0);
  constexpr int kMaxThreads = 256;
  if (o.threads > kMaxThreads)
    fail(ErrorCode::kInvalidArgument, "threads is {}, expected at most {}", o.threads, kMaxThreads);
}

std::exception_ptr refusal(const Problem& problem) {
  return std::make_exception_ptr(
      Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}: {}; mend the record, or have such records skipped",
                                                     problem.where, problem_name(problem.kind), problem.reason)));
}

Policy policy_of(const Problem& problem, const LoaderOptions& options) {
  return problem.kind == ProblemKind::kTooLong ? options.too_long : options.bad_records;
}

void finish_batch(Batch& batch, const LoaderOptions& options) {
  std::vector<std::vector<Sample>> rows(batch.rows);
  for (Loading& one : batch.samples) {
    if (one.failure) std::rethrow_exception(one.failure);
    if (!one.problem) {
      rows[one.row].push_back(std::move(one.sample));
      continue;
    }
    if (policy_of(*one.problem, options) == Policy::kRefuse) std::rethrow_exception(refusal(*one.problem));
    if (one.draw.epoch == 0) batch.problems.push_back(*one.problem);
  }
  batch.samples.clear();
  batch.result = assemble(std::move(rows));
}

}  // namespace vl2::train
