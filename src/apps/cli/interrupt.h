// Ctrl-C as a question to ask instead of a death to die.
#pragma once

namespace vl2::cli {

// While one lives, the first Ctrl-C only sets a flag; the second one kills the program as usual. One at a time.
class InterruptWatch {
 public:
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  bool requested() const;
  void forget();  // the next Ctrl-C is the first again
};

}  // namespace vl2::cli
