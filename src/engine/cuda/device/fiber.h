// Stacks of their own on one thread of the system, switched by hand: no system call, a few nanoseconds.
#pragma once

#include <cstddef>
#include <memory>

namespace vl2::cuda::software {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Ready to run entry() from its beginning; entry must end with leave(true) and never return. `colour` moves the top
  // of the stack, so that many fibers do not share cache sets.
  void begin(void (*entry)(), size_t colour);
  void enter();            // from the system's stack: runs the fiber until it leaves
  void leave(bool ended);  // from the fiber: back to enter()

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace vl2::cuda::software
