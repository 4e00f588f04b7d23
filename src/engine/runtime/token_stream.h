// The reader's end of one request. Dropping the last reference cancels the request.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "engine/runtime/request.h"

namespace vl2 {

class TokenChannel;

// One reader at a time; cancel() from any thread. Outlives the engine safely: what an engine leaves unfinished ends as
// kCancelled.
class TokenStream {
 public:
  explicit TokenStream(std::shared_ptr<TokenChannel> channel);
  ~TokenStream();
  TokenStream(const TokenStream&) = delete;
  TokenStream& operator=(const TokenStream&) = delete;

  // The next token; waits for it. Empty: the answer is complete. Throws the Error a request ended with.
  std::optional<TokenEvent> next();
  // True once next() would return at once; false when the time is up.
  bool wait_for(std::chrono::milliseconds time);
  // The engine stops within one step; tokens already there can still be read.
  void cancel();
  // The complete answer; waits for it. Never throws for a failed request: look at `finish` and `error`.
  const Answer& answer();

 private:
  std::shared_ptr<TokenChannel> channel_;
};

}  // namespace vl2
