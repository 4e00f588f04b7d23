// Where two runs of the same cases part: every stage of one trace against the other's.
//
// Errors are root mean squares of the difference, relative to the root mean square of run A's values, over all cases.
// Plain data; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/model/trace_case.h"

namespace vl2 {

// Of the next token's distributions, in nats: KL(A || B).
struct LogitDrift {
  int64_t rows = 0;
  int64_t same_best = 0;  // rows whose largest logit is the same token's
  double mean_kl = 0;
  double max_kl = 0;
};

struct StageDrift {
  std::string name;
  double relative_error = 0;  // infinite: a value is no finite number in one of the runs alone
  double largest = 0;         // of the differences
};

struct RouterDrift {
  int64_t layer = 0;
  int64_t tokens = 0;
  int64_t differing = 0;  // tokens that go to other experts, in whatever order
};

// A case's answers: A's own, and what B says when it is given A's.
struct AnswerDrift {
  int64_t tokens = 0;                       // up to and with A's end token
  std::optional<int64_t> first_difference;  // empty: B gives the same answer
};

struct DriftReport {
  std::vector<StageDrift> stages;  // in the order of computation
  std::vector<RouterDrift> routers;
  LogitDrift prompt;  // rows of text
  LogitDrift answer;
  std::vector<AnswerDrift> answers;

  // The first stage with a larger error; nullptr: none.
  const StageDrift* first_above(double threshold) const;
};

class DriftMeter {
 public:
  // `end_token`: what comes after it in an answer does not count.
  explicit DriftMeter(int64_t end_token) : end_token_(end_token) {}

  // The traces of one case, run_trace_case's with a generation "gen" whose teacher in B are A's tokens.
  // kInvalidArgument: a stage of one is not in the other, or of another shape.
  void add(const TraceCase& c, const std::vector<TraceTensor>& a, const std::vector<TraceTensor>& b);

  DriftReport report() const;

 private:
  struct Squares {
    double error = 0, value = 0, largest = 0;
  };
  void add_stage(const std::string& name, const TensorView& a, const TensorView& b);
  void add_answer(const TensorView& a, const TensorView& b, const TensorView& logits_a, const TensorView& logits_b);

  int64_t end_token_;
  std::vector<std::string> order_;  // of the stages
  std::map<std::string, Squares> stages_;
  std::map<int64_t, RouterDrift> routers_;
  DriftReport report_;
};

}  // namespace vl2
