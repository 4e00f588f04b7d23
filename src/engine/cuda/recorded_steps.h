// Steps that answer, recorded when they come for the second time and replayed from then on: one call to the driver
// instead of one for each kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/cuda/device/device.h"
#include "engine/ops/weight.h"

namespace vl2::cuda {

// One thread, as its Ops.
class RecordedSteps {
 public:
  // Off where VL2_CUDA_GRAPHS is 0.
  explicit RecordedSteps(Device& device);

  bool enabled() const { return enabled_; }
  // Does the work, whose kernels' arguments must be the same whenever `key` is.
  void run(std::vector<int64_t> key, const std::function<void()>& work);
  // When there are other weights or caches: memory of those that are gone may be theirs now.
  void forget();
  std::string counts() const;  // "steps: 3 launched, 2 recorded, 40 replayed"

 private:
  struct Step {
    std::unique_ptr<Recording> recording;
    bool cannot = false;
    int64_t used = 0;  // when last
  };
  std::unique_ptr<Recording> record(const std::function<void()>& work);
  void forget_oldest();

  Device& device_;
  bool enabled_;
  std::map<std::vector<int64_t>, Step> steps_;
  int64_t clock_ = 0;
  int64_t launched_ = 0, recorded_ = 0, replayed_ = 0;
};

// Few rows of answers alone: what launches bound, and what comes again and again.
bool worth_recording(std::span<const SequenceSlice> sequences);

}  // namespace vl2::cuda
