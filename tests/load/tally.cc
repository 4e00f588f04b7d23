#include "load/tally.h"

namespace vl2::load_test {
namespace {

constexpr size_t kMostViolations = 20;

}  // namespace

void Tally::count(const std::string& what) {
  const std::lock_guard lock(mutex_);
  ++counts_[what];
}

void Tally::violation(const std::string& what) {
  const std::lock_guard lock(mutex_);
  ++counts_["violations"];
  if (violations_.size() < kMostViolations) violations_.push_back(what);
}

void Tally::whole(const std::string& id) {
  const std::lock_guard lock(mutex_);
  whole_.insert(id);
}

void Tally::left(const std::string& id) {
  const std::lock_guard lock(mutex_);
  left_.insert(id);
}

int64_t Tally::of(const std::string& what) const {
  const std::lock_guard lock(mutex_);
  const auto at = counts_.find(what);
  return at == counts_.end() ? 0 : at->second;
}

std::vector<std::string> Tally::violations() const {
  const std::lock_guard lock(mutex_);
  return violations_;
}

bool Tally::is_whole(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return whole_.contains(id);
}

bool Tally::is_left(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return left_.contains(id);
}

std::string Tally::text() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& [what, count] : counts_) text += "  " + what + ": " + std::to_string(count) + "\n";
  return text;
}

}  // namespace vl2::load_test
