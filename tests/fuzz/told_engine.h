// An Engine without a model, for fuzzing what stands in front of it: which tokens an answer has is told beforehand, and
// everything else is the real thing, constraints, stop strings and the making of text included
// (engine/runtime/sequence). Answers are complete when submit() returns. One thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/engine.h"

namespace vl2::fuzz {

// Handed to the engine as its observer.
class Script : public EngineObserver {
 public:
  // The tokens of each answer: bytes are themselves, 0xff is the end of the sentence, 0xfe an error of the engine.
  // Behind the last one comes the end of the sentence.
  std::string tokens;
  std::vector<Answer> answers;  // in the order of their requests
  void on_finish(const Answer& answer) override { answers.push_back(answer); }
};

std::shared_ptr<Engine> make_told_engine(Script& script);

}  // namespace vl2::fuzz
