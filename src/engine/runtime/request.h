// What goes into the engine and what comes out of it. Plain data.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/processor/multimodal_prompt.h"
#include "engine/constrain/constraint.h"
#include "engine/runtime/sampler.h"

namespace vl2 {

// kLoad counts tensors, kVision tiles, kPrefill prompt tokens, kCached those of them that were in the cache; it comes
// before kPrefill, where there are any.
enum class Stage { kLoad, kVision, kCached, kPrefill };
// kLoad is reported by the thread that opens the engine, the others by the engine's thread: return quickly, do not
// throw.
using ProgressCallback = std::function<void(Stage stage, int64_t done, int64_t total)>;

// Prompt lookup: the next tokens are guessed from what prompt and answer already say, and verified together in one
// step. The answer is the same to the last bit, only its time differs.
enum class Speculation {
  kOff,
  kAuto,    // where it should save time
  kAlways,  // wherever there is a guess; for tests and measurements
};

struct Request {
  MultimodalPrompt prompt;
  SamplingParams sampling;
  int64_t max_new_tokens = 512;   // fewer when the context ends first
  std::vector<std::string> stop;  // the answer ends before the first of these; needs a tokenizer
  bool ignore_eos = false;        // go on until max_new_tokens; for benchmarks
  int top_logprobs = 0;           // alternatives reported with every token, at most 20
  bool detect_loops = false;      // end an answer that says the same again and again (loop_detector.h)
  Speculation speculation = Speculation::kAuto;
  // What the answer must be; optional, of Engine::compile(). Such an answer ends where the constraint lets it end, or
  // as kLength somewhere inside. Reported logprobs are those of the model, without the constraint.
  std::shared_ptr<const Constraint> constraint;
  // No answer but an embedding of the prompt (Answer::embedding). It does not look into the prefix cache, which has no
  // hidden states; what says how to answer means nothing.
  bool embed = false;
  ProgressCallback progress;    // optional: kVision, kCached and kPrefill of this request
  std::shared_ptr<void> lease;  // optional: let go of when the engine is done with the request, before its reader knows
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};

struct TokenEvent {
  int32_t id = 0;
  // Whole characters that became certain with this token. Empty while a character is incomplete or a stop string could
  // still come; the text of all events together is the answer.
  std::string text;
  float logprob = 0;  // of this token among all, before temperature and penalties
  std::vector<TokenLogprob> top;
};

enum class FinishReason {
  kStop,        // the model ended its answer
  kLength,      // max_new_tokens, or the context is full
  kStopString,  // one of Request::stop; it is not part of the text
  kRepetition,  // Request::detect_loops; what it repeated is part of the text
  kCancelled,
  kError,
};
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "stop_string", "repetition", ...

struct Usage {
  int64_t prompt_tokens = 0;  // with vision tokens
  int64_t vision_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, that were in the cache already
  int64_t tiles = 0;
  int64_t completion_tokens = 0;  // with the end-of-sentence token
};

// Wall-clock milliseconds; differs from run to run. The stages follow each other: their sum is the time from submit to
// finish.
struct Timings {
  double queue_ms = 0;    // submit until admitted
  double vision_ms = 0;   // until the last picture is encoded
  double prefill_ms = 0;  // until the first token
  double decode_ms = 0;   // from the first token to the last
  // The longest piece of its pictures, and the longest step with tokens of its prompt, whoever took part in them: so
  // long others' answers had to wait.
  double vision_step_ms = 0;
  double prefill_step_ms = 0;
  double longest_pause_ms = 0;  // between two of its own tokens
  // Of the decode stage: guessed tokens that were run, and those of them that saved a step.
  int64_t drafted_tokens = 0;
  int64_t accepted_tokens = 0;
  double total_ms() const { return queue_ms + vision_ms + prefill_ms + decode_ms; }
  double first_token_ms() const { return queue_ms + vision_ms + prefill_ms; }
};

struct Answer {
  FinishReason finish = FinishReason::kError;
  std::vector<int32_t> ids;  // every sampled token, the end-of-sentence token included
  std::string text;
  std::optional<std::string> stop_string;  // the one that ended it
  // Of Request::embed, [hidden_size], of length 1: the mean of the decoder's final hidden states, behind the last norm,
  // over the tokens of the prompt, vision tokens too. A leading begin-of-sentence token is left out where there are
  // others: it sees nothing but itself.
  std::vector<float> embedding;
  std::optional<Error> error;  // kError
  Usage usage;
  Timings timings;
};

}  // namespace vl2
