// V: vocabulary, k: chosen experts of a token.
#include "engine/model/trace_drift.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <span>

namespace vl2 {
namespace {

std::span<const float> floats(const TensorView& tensor) {
  return {tensor.as<float>(), static_cast<size_t>(tensor.size())};
}

// The logarithm of the sum of exponentials.
double log_sum(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(double{x} - top);
  return top + std::log(sum);
}

size_t best(std::span<const float> logits) {
  return static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void add_row(LogitDrift& drift, std::span<const float> a, std::span<const float> b) {
  const double sum_a = log_sum(a), sum_b = log_sum(b);
  double kl = 0;
  for (size_t v = 0; v < a.size(); ++v) {
    const double log_a = double{a[v]} - sum_a, log_b = double{b[v]} - sum_b;
    kl += std::exp(log_a) * (log_a - log_b);
  }
  if (!std::isfinite(kl)) kl = std::numeric_limits<double>::infinity();
  kl = std::max(kl, 0.0);  // rounding of equal rows
  ++drift.rows;
  drift.same_best += best(a) == best(b) ? 1 : 0;
  drift.mean_kl += (kl - drift.mean_kl) / static_cast<double>(drift.rows);
  drift.max_kl = std::max(drift.max_kl, kl);
}

const TraceTensor* find(const std::vector<TraceTensor>& tensors, const std::string& name) {
  for (const TraceTensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

}  // namespace

const StageDrift* DriftReport::first_above(double threshold) const {
  for (const StageDrift& stage : stages)
    if (stage.relative_error > threshold) return &stage;
  return nullptr;
}

void DriftMeter::add_stage(const std::string& name, const TensorView& a, const TensorView& b) {
  if (stages_.find(name) == stages_.end()) order_.push_back(name);
  Squares& sum = stages_[name];
  const std::span<const float> x = floats(a), y = floats(b);
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) {
      if (std::isfinite(x[i])) sum.value += double{x[i]} * double{x[i]};
      continue;
    }
    double d = std::fabs(double{x[i]} - double{y[i]});
    if (!std::isfinite(d)) d = std::numeric_limits<double>::infinity();
    if (std::isfinite(x[i])) sum.value += double{x[i]} * double{x[i]};
    sum.error += d * d;
    sum.largest = std::max(sum.largest, d);
  }
}

void DriftMeter::add_answer(const TensorView& a, const TensorView& b, const TensorView& logits_a,
                            const TensorView& logits_b) {
  const int64_t steps = a.shape[1], vocab = logits_a.shape[2];
  AnswerDrift answer;
  for (int64_t n = 0; n < steps; ++n) {
    add_row(report_.answer, floats(logits_a).subspan(static_cast<size_t>(n * vocab), static_cast<size_t>(vocab)),
            floats(logits_b).subspan(static_cast<size_t>(n * vocab), static_cast<size_t>(vocab)));
    ++answer.tokens;
    const int64_t token = a.as<int64_t>()[n];
    if (b.as<int64_t>()[n] != token && !answer.first_difference) answer.first_difference = n;
    if (token == end_token_) break;
  }
  report_.answers.push_back(answer);
}

void DriftMeter::add(const TraceCase& c, const std::vector<TraceTensor>& a, const std::vector<TraceTensor>& b) {
  VL2_CHECK(c.batch == 1, "drift is measured on cases of one sequence");
  if (a.size() != b.size())
    fail(ErrorCode::kInvalidArgument, "A has {} stages and B {}: models of different depth cannot be compared",
         a.size(), b.size());
  for (const TraceTensor& stage : a) {
    const TraceTensor* other = find(b, stage.name);
    if (other == nullptr || other->shape != stage.shape || other->dtype != stage.dtype)
      fail(ErrorCode::kInvalidArgument, "{} is {} in A and {} in B: models of different sizes cannot be compared",
           stage.name, shape_string(stage.shape), other == nullptr ? "absent" : shape_string(other->shape));
    const bool is_gate = stage.name.starts_with("gate.");
    if (is_gate && stage.name.ends_with(".topk_idx")) {
      RouterDrift& router = routers_[std::stoll(stage.name.substr(5))];
      router.layer = std::stoll(stage.name.substr(5));
      const int64_t tokens = stage.shape[0], k = stage.shape[1];
      for (int64_t t = 0; t < tokens; ++t) {
        const auto chosen = [&](const TraceTensor& tensor) {
          const int32_t* first = tensor.view().as<int32_t>() + t * k;
          return std::set<int32_t>(first, first + k);
        };
        ++router.tokens;
        router.differing += chosen(stage) != chosen(*other) ? 1 : 0;
      }
    } else if (stage.name == "logits") {
      add_stage(stage.name, stage.view(), other->view());
      const auto vocab = static_cast<size_t>(stage.shape[2]);
      for (size_t t = 0; t < static_cast<size_t>(c.length); ++t)
        if (c.image_mask[t] == 0)  // nobody asks what follows inside a picture
          add_row(report_.prompt, floats(stage.view()).subspan(t * vocab, vocab),
                  floats(other->view()).subspan(t * vocab, vocab));
    } else if (stage.name == "gen.tokens") {
      const TraceTensor *logits_a = find(a, "gen.logits"), *logits_b = find(b, "gen.logits");
      VL2_CHECK(logits_a != nullptr && logits_b != nullptr);
      add_answer(stage.view(), other->view(), logits_a->view(), logits_b->view());
    } else if (!is_gate && !stage.name.starts_with("gen.") && stage.dtype == DType::kF32) {
      add_stage(stage.name, stage.view(), other->view());
    }
  }
}

DriftReport DriftMeter::report() const {
  DriftReport report = report_;
  for (const std::string& name : order_) {
    const Squares& sum = stages_.at(name);
    const double relative = sum.error == 0 ? 0.0 : std::sqrt(sum.error / sum.value);
    report.stages.push_back(
        {name, std::isnan(relative) ? std::numeric_limits<double>::infinity() : relative, sum.largest});
  }
  for (const auto& [layer, router] : routers_) report.routers.push_back(router);
  return report;
}

}  // namespace vl2
