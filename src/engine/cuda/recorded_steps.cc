#include "engine/cuda/recorded_steps.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "core/base/error.h"

namespace vl2::cuda {
namespace {

constexpr size_t kMostSteps = 32;  // remembered; each with a recording of a few megabytes on the device
constexpr int64_t kMostRows = 64;

bool wanted() {
  const char* value = std::getenv("VL2_CUDA_GRAPHS");
  return value == nullptr || std::string_view(value) != "0";
}

}  // namespace

bool worth_recording(std::span<const SequenceSlice> sequences) {
  int64_t rows = 0;
  for (const SequenceSlice& s : sequences) {
    if (!s.decode) return false;
    rows += s.count;
  }
  return rows > 0 && rows <= kMostRows;
}

RecordedSteps::RecordedSteps(Device& device) : device_(device), enabled_(wanted()) {}

std::string RecordedSteps::counts() const {
  return fmt::format("steps: {} launched, {} recorded, {} replayed", launched_, recorded_, replayed_);
}

void RecordedSteps::run(std::vector<int64_t> key, const std::function<void()>& work) {
  const auto at = steps_.find(key);
  if (!enabled_ || at == steps_.end() || at->second.cannot) {
    // The first time allocates what the work needs and loads its kernels, which cannot be recorded.
    work();
    ++launched_;
    if (!enabled_ || at != steps_.end()) return;
    if (steps_.size() >= kMostSteps) forget_oldest();
    steps_[std::move(key)].used = ++clock_;
    return;
  }
  Step& step = at->second;
  step.used = ++clock_;
  if (step.recording == nullptr) {
    step.recording = record(work);
    if (step.recording == nullptr) {
      step.cannot = true;
      work();
      ++launched_;
      return;
    }
    ++recorded_;
  }
  device_.replay(*step.recording);
  ++replayed_;
}

std::unique_ptr<Recording> RecordedSteps::record(const std::function<void()>& work) {
  try {
    device_.begin_recording();
  } catch (const Error&) {
    enabled_ = false;
    return nullptr;
  }
  try {
    work();
  } catch (const CannotRecord&) {
    (void)device_.end_recording();
    return nullptr;
  } catch (...) {
    (void)device_.end_recording();
    throw;
  }
  std::unique_ptr<Recording> recording = device_.end_recording();
  if (recording == nullptr) enabled_ = false;
  return recording;
}

void RecordedSteps::forget() {
  if (steps_.empty()) return;
  device_.synchronize();  // one may still run
  steps_.clear();
}

void RecordedSteps::forget_oldest() {
  device_.synchronize();
  steps_.erase(std::min_element(steps_.begin(), steps_.end(),
                                [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
}

}  // namespace vl2::cuda
