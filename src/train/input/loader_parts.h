// The pieces a Loader is made of: a record being planned, a sample whose pictures are loaded, a batch on its way.
// Private to loader.cc. Plain data: whose turn it is with one, the Loader's mutex says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <variant>
#include <vector>

#include "train/input/loader.h"

namespace vl2::train {

// A record that is being planned, or waits for the mixture to come to it.
struct Slot {
  Draw draw;
  bool again = false;  // drawn before the state we resumed from was saved
  bool taken = false, done = false;
  std::variant<Sample, Problem> result;
  std::exception_ptr failure;
};

struct Waiting {
  Draw draw;
  Sample sample;
};

// A sample of a batch, whose pictures are being loaded.
struct Loading {
  Draw draw;
  Sample sample;
  size_t row = 0;
  std::optional<Problem> problem;
  std::exception_ptr failure;
};

struct Batch {
  std::vector<Loading> samples;
  size_t rows = 0;
  std::vector<size_t> with_pictures;  // indices of samples
  size_t next = 0, unfinished = 0;    // of with_pictures
  bool assembling = false, ready = false, end = false;
  std::exception_ptr failure;
  MicroBatch result;
  // The state behind it, and what was left out since the batch before.
  std::vector<SourceState> sources;
  std::vector<Draw> waiting;
  std::vector<Problem> problems;
  int64_t shortened = 0;
};

// kInvalidArgument.
void check_options(const LoaderOptions& options);
// What next() throws for a problem where policy refuses it.
std::exception_ptr refusal(const Problem& problem);
// Samples, with the policies applied, to batch.result; leaves out samples with problems and adds those to
// batch.problems in their first epoch. Throws the first failure or refused problem.
void finish_batch(Batch& batch, const LoaderOptions& options);
Policy policy_of(const Problem& problem, const LoaderOptions& options);

}  // namespace vl2::train
