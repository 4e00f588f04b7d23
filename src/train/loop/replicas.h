// The model several times over the same weights, each copy with gradients of its own, so that micro-batches are
// computed side by side: a small model's products are too small to be split between cores.
//
// Borrows the masters, which must outlive it. What it does follows from the micro-batches and the number of copies, not
// from which thread is faster.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "train/model/deepseek_vl2.h"

namespace vl2::train {

class Replicas {
 public:
  // count >= 1; `adapters` may be null.
  Replicas(const Parameters& parameters, const Adapters* adapters, int64_t count);

  int64_t count() const { return static_cast<int64_t>(copies_.size()); }
  // Calls work(model, item) for every item from 0 to items, item i on copy i % count: see side_by_side().
  void run(int64_t items, const std::function<void(const DeepseekVl2& model, int64_t item)>& work);
  // Adds every copy's gradients to the masters', in order, and drops them; or drops them only.
  void collect_gradients();
  void drop_gradients();

 private:
  struct Copy {
    Copy(const Parameters& from, const Adapters* from_adapters);
    std::vector<std::pair<at::Tensor, at::Tensor>> leaves;  // its own, the master; filled while the others are made
    Parameters parameters;
    Adapters adapters;
    std::unique_ptr<DeepseekVl2> model;
  };
  std::vector<std::unique_ptr<Copy>> copies_;
};

}  // namespace vl2::train
